//! Other people's names for weights: rules and tables that bring them to the network's.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};

use regex::Regex;

use super::entries::Entry;

/// Bytes of a name and of a replacement: rules that double a name can be many.
const MAX_NAME: usize = 4096;

/// Changes to names, applied in order: each rule, then the table to what the rules made.
#[derive(Clone, Debug, Default)]
pub struct Renames {
    rules: Vec<Rule>,
    table: BTreeMap<String, String>,
}

#[derive(Clone, Debug)]
struct Rule {
    /// As it was given.
    text: String,
    regex: Regex,
    replacement: String,
}

/// Why there are no such rules, or not all of them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "a variant's text says what its fields are")]
pub enum RenameError {
    #[error("`{0}` is no renaming: write REGEX=REPLACEMENT, where $1 stands for the first group")]
    NoRule(String),
    #[error("`{rule}` has no valid regular expression: {cause}")]
    Regex { rule: String, cause: String },
    #[error("line {line} is no entry of a table of names: write `name in the file = name in the network`")]
    NoEntry { line: usize },
    #[error("line {line} renames {name} a second time")]
    Twice { line: usize, name: String },
    #[error("`{rule}` makes names of more than {MAX_NAME} bytes")]
    TooLong { rule: String },
    #[error("the expression `{pattern}` has an `=`; write `[=]`")]
    Equals { pattern: String },
    #[error("where the expression `{pattern}` ends is not clear; write brackets in it as `\\(` and `\\[`")]
    Unclear { pattern: String },
    #[error("{first} and {second} would both be named {name}")]
    Collision { first: String, second: String, name: String },
}

impl Renames {
    /// Adds a rule `REGEX=REPLACEMENT`, split at the first `=` outside of brackets. The regular
    /// expression may match any part of a name; `$1` and `${name}` in the replacement are its groups.
    ///
    /// # Errors
    /// Where there is no `=` or the regular expression is none.
    pub fn rule(&mut self, rule: &str) -> Result<(), RenameError> {
        let (pattern, replacement) = split_rule(rule).ok_or_else(|| RenameError::NoRule(rule.into()))?;
        let regex = Regex::new(pattern);
        let regex = regex.map_err(|e| RenameError::Regex { rule: rule.into(), cause: e.to_string() })?;
        if replacement.len() > MAX_NAME {
            return Err(RenameError::TooLong { rule: format!("{pattern}=…") });
        }
        self.rules.push(Rule { text: rule.into(), regex, replacement: replacement.into() });
        Ok(())
    }

    /// Adds the rule of a regular expression and its replacement, as [`Self::rule`] has them in one text.
    ///
    /// # Errors
    /// As [`Self::rule`], and where an `=` that is outside of brackets in the expression would end it there.
    pub fn pair(&mut self, pattern: &str, replacement: &str) -> Result<(), RenameError> {
        let rule = format!("{pattern}={replacement}");
        Regex::new(pattern).map_err(|e| RenameError::Regex { rule: pattern.into(), cause: e.to_string() })?;
        match split_rule(&rule) {
            Some((split, _)) if split == pattern => self.rule(&rule),
            _ if pattern.contains('=') => Err(RenameError::Equals { pattern: pattern.into() }),
            _ => Err(RenameError::Unclear { pattern: pattern.into() }),
        }
    }

    /// The rules as they were given, and the table: what makes the same renames again.
    pub fn parts(&self) -> (Vec<String>, Vec<(String, String)>) {
        let rules = self.rules.iter().map(|r| r.text.clone()).collect();
        (rules, self.table.iter().map(|(from, to)| (from.clone(), to.clone())).collect())
    }

    /// The inverse of [`Self::parts`].
    ///
    /// # Errors
    /// As [`Self::rule`].
    pub fn from_parts(rules: &[String], table: &[(String, String)]) -> Result<Self, RenameError> {
        let mut renames = Self { table: table.iter().cloned().collect(), ..Self::default() };
        rules.iter().try_for_each(|rule| renames.rule(rule))?;
        Ok(renames)
    }

    /// Adds the lines of a table: `name in the file = name in the network`, `#` before a comment.
    ///
    /// # Errors
    /// Names the line that is none.
    pub fn table(&mut self, text: &str) -> Result<(), RenameError> {
        for (i, line) in text.lines().enumerate() {
            let line_number = i + 1;
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            let entry = line.split_once('=').map(|(from, to)| (from.trim(), to.trim()));
            let (from, to) = entry
                .filter(|(from, to)| !from.is_empty() && !to.is_empty())
                .ok_or(RenameError::NoEntry { line: line_number })?;
            if self.table.insert(from.into(), to.into()).is_some() {
                return Err(RenameError::Twice { line: line_number, name: from.into() });
            }
        }
        Ok(())
    }

    /// The name that stands for `name`.
    ///
    /// # Errors
    /// Where a rule makes it too long.
    pub fn of(&self, name: &str) -> Result<String, RenameError> {
        self.follow(name, &mut HashSet::new())
    }

    /// As [`Self::of`]. Rules and names of the table that match are `used`.
    fn follow<'r>(&'r self, name: &str, used: &mut HashSet<&'r str>) -> Result<String, RenameError> {
        let mut new = name.to_string();
        for rule in &self.rules {
            if let Cow::Owned(changed) = rule.regex.replace(&new, &rule.replacement) {
                used.insert(&rule.text);
                new = changed;
            }
            if new.len() > MAX_NAME.max(name.len()) {
                return Err(RenameError::TooLong { rule: rule.text.clone() });
            }
        }
        Ok(match self.table.get_key_value(&new) {
            Some((from, to)) => {
                used.insert(from);
                to.clone()
            }
            None => new,
        })
    }

    /// Renames the tensors of a file. Returns the rules, and names of the table, that match none.
    ///
    /// # Errors
    /// Where two would have the same name or one would be too long; nothing is renamed then.
    pub fn apply(&self, entries: &mut [Entry]) -> Result<Vec<String>, RenameError> {
        let mut used = HashSet::new();
        let names = entries.iter().map(|e| self.follow(&e.name, &mut used));
        let names: Vec<String> = names.collect::<Result<_, _>>()?;
        let mut owners: HashMap<&str, &Entry> = HashMap::new();
        for (name, entry) in names.iter().zip(&*entries) {
            if let Some(first) = owners.insert(name, entry) {
                let (first, second) = (first.name.clone(), entry.name.clone());
                return Err(RenameError::Collision { first, second, name: name.clone() });
            }
        }
        entries.iter_mut().zip(names).for_each(|(entry, name)| entry.name = name);
        let all = self.rules.iter().map(|r| &r.text).chain(self.table.keys());
        Ok(all.filter(|change| !used.contains(change.as_str())).cloned().collect())
    }
}

/// Splits at the first `=` that no bracket encloses: those of `(?=...)` and `[=]` belong to the regular expression.
fn split_rule(rule: &str) -> Option<(&str, &str)> {
    let (mut depth, mut escaped) = (0usize, false);
    for (i, c) in rule.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '(' | '[' => depth += 1,
            ')' | ']' => depth = depth.saturating_sub(1),
            '=' if depth == 0 && i > 0 => return Some((&rule[..i], &rule[i + 1..])),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::entries::Encoding;
    use super::*;
    use crate::tensor::Shape;
    use std::sync::Arc;

    fn renames(rules: &[&str], table: &str) -> Renames {
        let mut renames = Renames::default();
        rules.iter().for_each(|r| renames.rule(r).unwrap());
        renames.table(table).unwrap();
        renames
    }

    #[test]
    fn rules_then_table() {
        let table = "# names of the old code\nhead.weight = fc.weight   # classifier\n\nhead.bias=fc.bias\n";
        let renames = renames(&[r"^features\.(\d+)=conv$1", "^top=head"], table);
        assert_eq!(renames.of("features.12.weight").unwrap(), "conv12.weight");
        assert_eq!(renames.of("top.weight").unwrap(), "fc.weight");
        assert_eq!(renames.of("other").unwrap(), "other");
        let mut doubling = Renames::default();
        (0..60).for_each(|_| doubling.rule("(.*)=$1$1").unwrap());
        assert_eq!(doubling.of("a"), Err(RenameError::TooLong { rule: "(.*)=$1$1".into() }));
        assert_eq!(split_rule("a(?P<n>[=])=$n=x"), Some(("a(?P<n>[=])", "$n=x")));
    }

    #[test]
    fn mistakes_are_named() {
        let mut renames = Renames::default();
        let mut messages = ["abc", "=x", "(=b", "*=a"].map(|r| renames.rule(r).unwrap_err().to_string()).to_vec();
        messages.extend(["a = b\nc", "a = b\na = c"].map(|t| renames.clone().table(t).unwrap_err().to_string()));
        let entry = |name: &str| Entry {
            name: name.into(),
            shape: Shape::from([1]),
            encoding: Encoding::F32,
            bytes: (Arc::new(vec![0u8; 4]), 0..4),
            strides: None,
        };
        renames.rule("[12]=").unwrap();
        messages.push(renames.apply(&mut [entry("w1"), entry("w2")]).unwrap_err().to_string());
        insta::assert_snapshot!(messages.join("\n"));
    }
}
