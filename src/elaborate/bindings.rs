//! Names that are bound at a place of a text, inner ones over outer ones. Looking a name up takes
//! no time that grows with how many there are.

use std::collections::HashMap;

pub(crate) struct Bindings<T> {
    /// In the order in which they were bound: the innermost last.
    entries: Vec<(String, T)>,
    /// The entries of each name.
    by_name: HashMap<String, Vec<usize>>,
}

impl<T> Default for Bindings<T> {
    fn default() -> Self {
        Self { entries: vec![], by_name: HashMap::new() }
    }
}

impl<T> Bindings<T> {
    pub(crate) fn bind(&mut self, name: &str, value: T) {
        self.by_name.entry(name.to_string()).or_default().push(self.entries.len());
        self.entries.push((name.to_string(), value));
    }

    /// The innermost binding of a name.
    pub(crate) fn find(&self, name: &str) -> Option<&T> {
        self.index(name).map(|i| &self.entries[i].1)
    }

    pub(crate) fn find_mut(&mut self, name: &str) -> Option<&mut T> {
        self.index(name).map(|i| &mut self.entries[i].1)
    }

    /// The innermost binding of a name, if it is none of the first `outer`.
    pub(crate) fn find_inner(&self, name: &str, outer: usize) -> Option<&T> {
        self.index(name).filter(|i| *i >= outer).map(|i| &self.entries[i].1)
    }

    fn index(&self, name: &str) -> Option<usize> {
        self.by_name.get(name)?.last().copied()
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|(name, _)| name.as_str())
    }

    /// Unbinds all but the first `length`, and gives what they were, the outermost first.
    pub(crate) fn leave(&mut self, length: usize) -> Vec<(String, T)> {
        let left = self.entries.split_off(length);
        for (name, _) in &left {
            let entries = self.by_name.get_mut(name).expect("each entry is among those of its name");
            entries.pop();
            if entries.is_empty() {
                self.by_name.remove(name);
            }
        }
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inner_bindings_hide_outer_ones_until_they_end() {
        let mut bindings = Bindings::default();
        bindings.bind("a", 1);
        bindings.bind("b", 2);
        bindings.bind("a", 3);
        assert_eq!((bindings.find("a"), bindings.find("b"), bindings.find("c")), (Some(&3), Some(&2), None));
        assert_eq!((bindings.find_inner("a", 2), bindings.find_inner("b", 2)), (Some(&3), None));
        assert_eq!(bindings.leave(1), [("b".to_string(), 2), ("a".to_string(), 3)]);
        assert_eq!((bindings.find("a"), bindings.find("b"), bindings.len()), (Some(&1), None, 1));
    }
}
