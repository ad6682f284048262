//! What a graph says of pictures and classes, as the language says it.

use crate::preprocess::{Color, Preprocess, Resize};

/// Class names stand on lines of about so many characters.
const LINE: usize = 100;

/// The statement for an input called `name`.
pub(crate) fn preprocess(name: &str, of: &Preprocess) -> String {
    match &steps(of)[..] {
        [] => format!("preprocess {name} {{}}"),
        [one] => format!("preprocess {name} {{ {one} }}"),
        several => format!("preprocess {name} {{\n{}\n}}", several.join("\n")),
    }
}

/// What stands between the braces, on a line or two.
pub(crate) fn steps(steps: &Preprocess) -> Vec<String> {
    let sizes = |[h, w]: [usize; 2]| if h == w { h.to_string() } else { format!("({h}, {w})") };
    let numbers = |v: &[f32]| format!("[{}]", v.iter().map(f32::to_string).collect::<Vec<_>>().join(", "));
    let resize = steps.resize.map(|resize| match resize {
        Resize::ShorterSide(side) => format!("resize {side}"),
        Resize::Exact([h, w]) => format!("resize ({h}, {w})"),
    });
    let pixels = [
        steps.invert.then(|| "invert true".to_string()),
        (steps.color == Color::Bgr).then(|| "color bgr".to_string()),
        resize,
        steps.center_crop.map(|size| format!("center_crop {}", sizes(size))),
        steps.scale.map(|scale| format!("scale {}", fraction(scale))),
    ];
    let per_channel = [("mean", &steps.mean), ("std", &steps.std)];
    let per_channel = per_channel.map(|(word, v)| (!v.is_empty()).then(|| format!("{word} {}", numbers(v))));
    let line = |steps: &[Option<String>]| steps.iter().flatten().cloned().collect::<Vec<_>>().join("  ");
    [line(&pixels), line(&per_channel)].into_iter().filter(|l| !l.is_empty()).collect()
}

/// 1/255 where that is what is meant.
fn fraction(value: f32) -> String {
    let denominator = (1.0 / f64::from(value)).round();
    let is_fraction = (2.0..=65536.0).contains(&denominator) && (1.0 / denominator) as f32 == value;
    if is_fraction { format!("1/{denominator}") } else { value.to_string() }
}

/// The statement that names the classes.
pub(crate) fn labels(names: &[String]) -> String {
    let mut lines = vec![String::new()];
    for name in names {
        let text = quoted(name);
        let line = lines.last_mut().expect("never empty");
        match line.is_empty() || line.len() + text.len() < LINE {
            true => *line += &format!("{}{text},", if line.is_empty() { "" } else { " " }),
            false => lines.push(format!("{text},")),
        }
    }
    match &lines[..] {
        [one] => format!("labels [{}]", one.trim_end_matches(',')),
        several => format!("labels [\n{}\n]", several.join("\n")),
    }
}

/// A string of the language: braces would hold expressions.
fn quoted(text: &str) -> String {
    let escaped = |c: char| match c {
        '"' | '\\' | '{' | '}' => vec!['\\', c],
        c => vec![c],
    };
    let text: String = text.chars().flat_map(escaped).collect();
    format!("\"{text}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_as_one_writes_them() {
        let imagenet = Preprocess {
            resize: Some(Resize::ShorterSide(256)),
            center_crop: Some([224; 2]),
            scale: Some(1.0 / 255.0),
            mean: vec![0.485, 0.456, 0.406],
            std: vec![0.229, 0.224, 0.225],
            ..Preprocess::default()
        };
        let caffe = Preprocess {
            resize: Some(Resize::Exact([227, 200])),
            center_crop: Some([200, 180]),
            color: Color::Bgr,
            scale: Some(0.0171),
            mean: vec![104.0, 117.0, 123.0],
            ..Preprocess::default()
        };
        let digits = Preprocess { color: Color::Gray, invert: true, ..Preprocess::default() };
        let texts = [imagenet, caffe, digits, Preprocess::default()].map(|steps| preprocess("image", &steps));
        insta::assert_snapshot!(texts.join("\n"));
    }

    #[test]
    fn names_of_classes_fill_lines() {
        let names = |n: usize| (0..n).map(|i| format!("class {i}")).collect::<Vec<_>>();
        assert_eq!(labels(&names(2)), r#"labels ["class 0", "class 1"]"#);
        assert_eq!(labels(&[r#"a "{b}" \c"#.into()]), r#"labels ["a \"\{b\}\" \\c"]"#);
        let many = labels(&names(40));
        assert!(many.lines().count() > 4 && many.lines().all(|l| l.len() <= LINE), "{many}");
    }
}
