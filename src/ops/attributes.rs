//! Attributes of an operation in the IR text: `{ kernel=3x3 stride=2x2 epilogue=[add,relu] }`.
//!
//! `attributes!` declares an operation's struct together with the printing and parsing of its
//! fields, so that a field is named once. Fields equal to their default are not printed.

use std::collections::BTreeMap;

use crate::tensor::Element;

/// A type that can stand as an attribute in the IR text. `parse(print(x)) == x`.
pub trait AttributeValue: Sized + PartialEq {
    /// The text of a value, without spaces outside of brackets.
    fn print(&self) -> String;
    /// The value of a text; `None` where the text is none of this type.
    fn parse(text: &str) -> Option<Self>;
}

macro_rules! by_display {
    ($($t:ty),*) => {$(
        impl AttributeValue for $t {
            fn print(&self) -> String {
                // `{:?}` prints the shortest float that reads back as the same value.
                format!("{self:?}")
            }
            fn parse(text: &str) -> Option<Self> {
                text.parse().ok()
            }
        }
    )*};
}
by_display!(usize, isize, i64, u64, f32, f64, bool);

/// A word.
impl AttributeValue for String {
    fn print(&self) -> String {
        self.clone()
    }
    fn parse(text: &str) -> Option<Self> {
        Some(text.to_string())
    }
}

/// A value, or `none`.
impl<T: AttributeValue> AttributeValue for Option<T> {
    fn print(&self) -> String {
        self.as_ref().map_or("none".into(), T::print)
    }
    fn parse(text: &str) -> Option<Self> {
        if text == "none" { Some(None) } else { T::parse(text).map(Some) }
    }
}

/// The name of an element: `u8`.
impl AttributeValue for Element {
    fn print(&self) -> String {
        self.name().into()
    }
    fn parse(text: &str) -> Option<Self> {
        Element::named(text)
    }
}

/// A pair of sizes, height then width: `3x3`.
impl AttributeValue for [usize; 2] {
    fn print(&self) -> String {
        format!("{}x{}", self[0], self[1])
    }
    fn parse(text: &str) -> Option<Self> {
        let (h, w) = text.split_once('x')?;
        Some([h.parse().ok()?, w.parse().ok()?])
    }
}

/// Padding: top, left, bottom, right: `1,1,1,1`.
impl AttributeValue for [usize; 4] {
    fn print(&self) -> String {
        self.map(|v| v.to_string()).join(",")
    }
    fn parse(text: &str) -> Option<Self> {
        let v: Vec<usize> = text.split(',').map(|p| p.parse().ok()).collect::<Option<_>>()?;
        v.try_into().ok()
    }
}

/// A bracketed list: `[1,2,3]`; elements may not hold commas outside brackets or parentheses.
impl<T: AttributeValue> AttributeValue for Vec<T> {
    fn print(&self) -> String {
        format!("[{}]", self.iter().map(T::print).collect::<Vec<_>>().join(","))
    }
    fn parse(text: &str) -> Option<Self> {
        let inner = text.strip_prefix('[')?.strip_suffix(']')?;
        split_top_level(inner).into_iter().map(T::parse).collect()
    }
}

/// Splits at commas that no bracket or parenthesis encloses. Empty text gives no parts.
pub fn split_top_level(text: &str) -> Vec<&str> {
    let mut parts = vec![];
    let (mut depth, mut start) = (0usize, 0usize);
    for (i, c) in text.char_indices() {
        match c {
            '[' | '(' => depth += 1,
            ']' | ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(&text[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    if !text.is_empty() {
        parts.push(&text[start..]);
    }
    parts
}

/// The attributes of one line of IR text, consumed field by field.
#[derive(Debug, Default)]
pub struct AttributeReader {
    fields: BTreeMap<String, String>,
}

impl AttributeReader {
    /// Fields of one line, by name; of two with one name the last counts.
    pub fn new(fields: impl IntoIterator<Item = (String, String)>) -> Self {
        Self { fields: fields.into_iter().collect() }
    }

    /// The attribute of that name, which is then consumed; `default` where there is none.
    ///
    /// # Errors
    /// Where it is malformed, or missing and without default.
    pub fn take<T: AttributeValue>(&mut self, name: &str, default: Option<T>) -> Result<T, String> {
        match self.fields.remove(name) {
            Some(text) => T::parse(&text).ok_or_else(|| format!("attribute {name} cannot be `{text}`")),
            None => default.ok_or_else(|| format!("attribute {name} is missing")),
        }
    }

    /// An attribute that may be absent.
    ///
    /// # Errors
    /// Where it is present and malformed.
    pub fn take_optional<T: AttributeValue>(&mut self, name: &str) -> Result<Option<T>, String> {
        if self.fields.contains_key(name) { self.take(name, None).map(Some) } else { Ok(None) }
    }

    /// An error naming the attributes that nobody asked for.
    ///
    /// # Errors
    /// Where there is one.
    pub fn finish(self) -> Result<(), String> {
        match self.fields.keys().next() {
            None => Ok(()),
            Some(name) => Err(format!("unknown attribute {name}")),
        }
    }
}

/// Declares an enum without data that stands as an attribute by the given words.
macro_rules! attribute_enum {
    ($(#[$meta:meta])* $vis:vis enum $name:ident { $($(#[$vmeta:meta])* $variant:ident = $text:literal),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        $vis enum $name { $($(#[$vmeta])* $variant),* }

        impl $name {
            /// The words of all, in their order.
            #[cfg(test)]
            #[allow(dead_code, reason = "not all are asked for")]
            pub(crate) const NAMES: [&'static str; [$($text),*].len()] = [$($text),*];

            /// The word that stands for it.
            #[allow(unreachable_pub, reason = "the tests' door reaches some of these enums")]
            pub fn name(self) -> &'static str {
                match self { $($name::$variant => $text),* }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }

        impl $crate::ops::attributes::AttributeValue for $name {
            fn print(&self) -> String {
                self.to_string()
            }
            fn parse(text: &str) -> Option<Self> {
                match text { $($text => Some($name::$variant),)* _ => None }
            }
        }
    };
}
pub(crate) use attribute_enum;

/// Declares an operation's struct with its attributes: `field: Type` is required in the IR text,
/// `field: Type = default` may be left out.
macro_rules! attributes {
    ($(#[$meta:meta])* pub struct $name:ident { $($(#[$fmeta:meta])* $field:ident : $ty:ty $(= $default:expr)?),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name {$(
            $(#[$fmeta])*
            #[allow(missing_docs, reason = "the op's text says what its attributes mean")]
            pub $field: $ty
        ),*}

        impl $crate::ops::Attributes for $name {
            #[allow(unused_mut, unused_variables)]
            fn print_attributes(&self) -> Vec<(&'static str, String)> {
                let mut out = vec![];
                $(
                    let default: Option<$ty> = attributes!(@default $($default)?);
                    if default.as_ref() != Some(&self.$field) {
                        out.push((stringify!($field), $crate::ops::attributes::AttributeValue::print(&self.$field)));
                    }
                )*
                out
            }

            #[allow(unused_variables)]
            fn parse_attributes(r: &mut $crate::ops::attributes::AttributeReader) -> Result<Self, String> {
                Ok(Self { $($field: r.take::<$ty>(stringify!($field), attributes!(@default $($default)?))?),* })
            }
        }
    };
    (@default) => { None };
    (@default $default:expr) => { Some($default) };
}
pub(crate) use attributes;
