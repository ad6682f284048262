//! Which passes run.

use std::collections::BTreeSet;

use super::PIPELINE;
use crate::diagnostic::nearest;

/// A set of passes. Their order is always the pipeline's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    names: BTreeSet<&'static str>,
}

/// A name that no pass has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no pass is named `{name}`{}", suggestion.map(|s| format!("; did you mean `{s}`?")).unwrap_or_default())]
pub struct UnknownPass {
    /// As it was given.
    pub name: String,
    /// The most similar name of a pass, where one is similar.
    pub suggestion: Option<&'static str>,
}

impl Default for Selection {
    fn default() -> Self {
        Self { names: PIPELINE.iter().filter(|p| p.default).map(|p| p.name).collect() }
    }
}

impl Selection {
    /// No pass at all: the graph stays as it is written.
    pub fn none() -> Self {
        Self { names: BTreeSet::new() }
    }

    /// Also those that are off by default.
    pub fn all() -> Self {
        Self { names: PIPELINE.iter().map(|p| p.name).collect() }
    }

    /// The passes of these names and no others.
    ///
    /// # Errors
    /// On the first name that no pass has.
    pub fn only<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, UnknownPass> {
        names.into_iter().try_fold(Self::none(), Self::with)
    }

    /// This selection and the pass of that name.
    ///
    /// # Errors
    /// Where no pass has the name.
    pub fn with(mut self, name: &str) -> Result<Self, UnknownPass> {
        self.names.insert(known(name)?);
        Ok(self)
    }

    /// This selection but for the pass of that name.
    ///
    /// # Errors
    /// Where no pass has the name.
    pub fn without(mut self, name: &str) -> Result<Self, UnknownPass> {
        self.names.remove(known(name)?);
        Ok(self)
    }

    /// Whether the pass of that name runs.
    pub fn contains(&self, name: &str) -> bool {
        self.names.contains(name)
    }
}

fn known(name: &str) -> Result<&'static str, UnknownPass> {
    let names = || PIPELINE.iter().map(|p| p.name);
    names().find(|n| *n == name).ok_or_else(|| UnknownPass { name: name.into(), suggestion: nearest(name, names()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selections_compose() {
        assert!(!Selection::default().contains("fold_input_normalization"));
        assert!(Selection::all().contains("fold_input_normalization"));
        assert!(!Selection::default().without("cse").unwrap().contains("cse"));
        let only = Selection::only(["cse", "dead_code"]).unwrap();
        assert_eq!(only, Selection::none().with("dead_code").unwrap().with("cse").unwrap());
        let error = Selection::default().without("fold_batchnorm").unwrap_err();
        assert_eq!(error.to_string(), "no pass is named `fold_batchnorm`; did you mean `fold_batch_norm`?");
    }
}
