//! What somebody should know of a network that is compiled all the same: one list for whoever shows it, be it the command,
//! Python or C.
//!
//! Most of it the stages say while they read a network ([`Network::warnings`]). What became of a file's weights is data
//! ([`WeightsReport`]), of which this makes words.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Compiler, Event, Network, WeightsReport};
use crate::diagnostic::{Diagnostic, Sources};
use crate::weights::Choice;

/// Something that is likely not meant, in a network that is compiled all the same. It shows as its message;
/// `render::warning_text` has the lines of the text as well.
#[derive(Clone, Debug)]
pub struct Warning {
    pub(crate) diagnostic: Diagnostic,
    pub(crate) sources: Sources,
}

impl Warning {
    /// A name of the kind of finding that stays the same, such as `unused-name`.
    pub fn code(&self) -> &'static str {
        self.diagnostic.code
    }

    /// What there is to say, in one sentence.
    pub fn message(&self) -> &str {
        &self.diagnostic.message
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

/// Gathers the warnings of compilers, each once: programs of one network for several sizes have the same ones.
#[derive(Clone, Debug, Default)]
pub struct Warnings(Arc<Mutex<Vec<Warning>>>);

impl Warnings {
    /// The compiler, whose warnings are gathered here.
    pub fn of(&self, compiler: Compiler) -> Compiler {
        let gathered = self.0.clone();
        compiler.on_warning(move |warning| {
            let mut gathered = gathered.lock().unwrap_or_else(PoisonError::into_inner);
            if !gathered.iter().any(|known| known.diagnostic == warning.diagnostic) {
                gathered.push(warning.clone());
            }
        })
    }

    /// Those that were gathered since this was last asked.
    pub fn take(&self) -> Vec<Warning> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Network {
    /// What was found, but for weights that are random ([`crate::Model::random_seed`] tells): of the text or the model, then
    /// of the weights.
    pub(crate) fn findings(&self) -> Vec<Diagnostic> {
        [self.warnings.clone(), of_weights(&self.weights)].concat()
    }
}

impl Compiler {
    /// Tells the observer what was found in a network.
    pub(super) fn tell_findings(&self, network: &Network) {
        // Nobody else asks for them.
        if self.observer.is_some() {
            for diagnostic in network.findings() {
                self.tell(Event::Warning(&Warning { diagnostic, sources: network.sources.clone() }));
            }
        }
    }
}

/// What became of a file's weights that may not be meant.
pub(crate) fn of_weights(weights: &WeightsReport) -> Vec<Diagnostic> {
    let WeightsReport::File { path, loaded, choice, .. } = weights else { return vec![] };
    let mut found: Vec<Diagnostic> = of_renames(path, &loaded.idle_renames).into_iter().collect();
    found.extend(choice.as_ref().map(|choice| of_choice(path, choice)));
    let mut listed = |code, names: &[String], what: &str| {
        if !names.is_empty() {
            let message = format!("{}: {} {what}: {}", path.display(), names.len(), shortened(names));
            found.push(Diagnostic::notice(code, message));
        }
    };
    listed("missing-weights", &loaded.missing, "weights are not in it and stay as they begin");
    listed("extra-weights", &loaded.extra, "tensors are not the network's");
    found
}

/// Renamings that did nothing: one list may serve several files, but a slip is likelier.
pub(crate) fn of_renames(path: &Path, idle: &[String]) -> Option<Diagnostic> {
    let (path, list) = (path.display(), shortened(idle));
    let message = format!("{path}: no name is matched by {list}, which --rename changes");
    (!idle.is_empty()).then(|| Diagnostic::notice("idle-rename", message))
}

/// Which of a checkpoint's sets of weights was taken, and how to have another.
pub(crate) fn of_choice(path: &Path, choice: &Choice) -> Diagnostic {
    let (path, others) = (path.display(), shortened(&choice.others));
    let message =
        format!("{path}: {} is taken, not {others}; {path}:{} names the other", choice.taken, choice.others[0]);
    Diagnostic::notice("several-weights", message)
}

/// A list for one line.
pub(crate) fn shortened(items: &[String]) -> String {
    const SHOWN: usize = 6;
    let more = if items.len() > SHOWN { format!(" and {} more", items.len() - SHOWN) } else { String::new() };
    items.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ") + &more
}
