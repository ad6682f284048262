//! The words of the IR text that printer and parser share.

use crate::ops::attributes::{AttributeReader, AttributeValue, attribute_enum, split_top_level};
use crate::preprocess::{Color, Preprocess, Resize};

/// A name as the text has it: plain where it is made of letters, digits, `_`, `.` and `'` and does
/// not begin with a digit, else a quoted JSON string.
pub(super) fn name(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '\'');
    let begins = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if begins && name.chars().all(plain) { name.to_string() } else { quoted(name) }
}

pub(super) fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("strings are JSON")
}

/// The inverse of [`name`]; `None` where the escapes are wrong.
pub(super) fn unquoted(text: &str) -> Option<String> {
    if text.starts_with('"') { serde_json::from_str(text).ok() } else { Some(text.to_string()) }
}

impl AttributeValue for Resize {
    fn print(&self) -> String {
        match self {
            Resize::ShorterSide(size) => format!("shorter({size})"),
            Resize::Exact([h, w]) => format!("exact({h},{w})"),
        }
    }
    fn parse(text: &str) -> Option<Self> {
        let (kind, sizes) = text.strip_suffix(')')?.split_once('(')?;
        let sizes: Vec<usize> = split_top_level(sizes).into_iter().map(|s| s.parse().ok()).collect::<Option<_>>()?;
        match (kind, sizes.as_slice()) {
            ("shorter", &[size]) => Some(Resize::ShorterSide(size)),
            ("exact", &[h, w]) => Some(Resize::Exact([h, w])),
            _ => None,
        }
    }
}

attribute_enum! {
    /// [`Color`] as a word.
    enum ColorWord { Rgb = "rgb", Bgr = "bgr", Gray = "gray" }
}

/// The attributes of an input with preprocessing. At least one, so that its presence shows.
pub(super) fn preprocess_attributes(p: &Preprocess) -> Vec<(&'static str, String)> {
    let color = match p.color {
        Color::Rgb => ColorWord::Rgb,
        Color::Bgr => ColorWord::Bgr,
        Color::Gray => ColorWord::Gray,
    };
    let mut out = vec![("color", color.print())];
    let mut optional = |name, value: Option<String>| out.extend(value.map(|v| (name, v)));
    optional("resize", p.resize.map(|r| r.print()));
    optional("crop", p.center_crop.map(|c| c.print()));
    optional("scale", p.scale.map(|s| s.print()));
    optional("mean", (!p.mean.is_empty()).then(|| p.mean.print()));
    optional("std", (!p.std.is_empty()).then(|| p.std.print()));
    optional("invert", p.invert.then(|| p.invert.print()));
    out
}

pub(super) fn parse_preprocess(r: &mut AttributeReader) -> Result<Option<Preprocess>, String> {
    let Some(color) = r.take_optional("color")? else { return Ok(None) };
    Ok(Some(Preprocess {
        color: match color {
            ColorWord::Rgb => Color::Rgb,
            ColorWord::Bgr => Color::Bgr,
            ColorWord::Gray => Color::Gray,
        },
        resize: r.take_optional("resize")?,
        center_crop: r.take_optional("crop")?,
        scale: r.take_optional("scale")?,
        mean: r.take("mean", Some(vec![]))?,
        std: r.take("std", Some(vec![]))?,
        invert: r.take("invert", Some(false))?,
    }))
}
