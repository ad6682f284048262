//! A text and its weights, as two files that belong together.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::failure::{Failure, Result};
use super::network::keep_inputs;
use crate::driver::Network;
use crate::opened::words;
use crate::output::OutputFile;
use crate::weights::safetensors;

/// Where a spec and its weights go.
pub(crate) struct SpecFiles {
    pub text: PathBuf,
    pub weights: PathBuf,
}

impl SpecFiles {
    /// Refuses to write over what is read, and over what is there unless that is asked for.
    pub(crate) fn new(text: PathBuf, force: bool, inputs: impl IntoIterator<Item = impl AsRef<Path>>) -> Result<Self> {
        let files = Self { weights: text.with_extension("safetensors"), text };
        let inputs: Vec<PathBuf> = inputs.into_iter().map(|input| input.as_ref().to_path_buf()).collect();
        [&files.text, &files.weights].into_iter().try_for_each(|path| keep_inputs(path, &inputs))?;
        let existing = [&files.text, &files.weights].into_iter().find(|p| p.exists());
        match existing {
            Some(path) if !force => {
                Err(Failure::message(format!("{} exists already; --force replaces it", path.display())))
            }
            _ => Ok(files),
        }
    }

    /// Writes both in full before either gets its place.
    pub(crate) fn write(&self, network: &Network) -> Result<()> {
        let cannot = |path: &Path| {
            let path = path.display().to_string();
            move |e: io::Error| Failure::message(format!("cannot write {path}: {}", words(&e)))
        };
        if let Some(folder) = self.text.parent().filter(|f| !f.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(cannot(folder))?;
        }
        let text = OutputFile::create(&self.text).map_err(cannot(&self.text))?;
        text.file().write_all(network.sources.get(network.root).text.as_bytes()).map_err(cannot(&self.text))?;
        let weights = safetensors::prepare(&self.weights, &network.graph.weights).map_err(cannot(&self.weights))?;
        weights.commit().map_err(cannot(&self.weights))?;
        text.commit().map_err(cannot(&self.text))
    }
}
