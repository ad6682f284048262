//! A network as an object file that a linker takes: C functions without libnetc, libc, allocator, threads or operating
//! system, and the header that declares them.
//!
//! ```text
//! Image ─entry─▶ the steps' code and the functions that call it ─elf─▶ object ─archive─▶ static library
//!       ─header─▶ x.h
//! ```
//!
//! The code of the steps is the image's, byte for byte, so that results have the bits of a run by the runtime. Of the
//! runtime's work the object does what needs nobody else: it points at memory, flushes denormals and goes through the steps.

mod archive;
mod elf;
mod entry;
mod header;
mod names;
mod supported;

use std::borrow::Cow;
use std::io::{self, Write};

use xxhash_rust::xxh3::xxh3_64;

use super::vector::clif;
use crate::artifact::{Image, Slot};
use crate::target::Target;

/// Why a network is no object.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "a variant's text and its message say what its fields are")]
pub enum Error {
    /// Only a run that keeps what the run before has left computes it.
    #[error("the network has states ({0}), which an object does not keep")]
    States(String),
    /// Numbers that are no f32 in memory.
    #[error("{port} is read as {element}; ports of objects are arrays of float")]
    Element { port: String, element: String },
    /// More weights than code reaches from where it is.
    #[error(
        "weights of {:.2} GB do not fit in an object (at most {:.2} GB); --weights-apart FILE puts them beside it",
        *bytes as f64 / 1e9,
        MAX_INSIDE as f64 / 1e9
    )]
    Weights { bytes: u64 },
    #[error("`{0}` is no name for C: letters, digits and _, the first no digit")]
    Prefix(String),
    #[error(transparent)]
    Code(#[from] Box<clif::Error>),
}

/// Code reaches 2 GiB; a program has other data, too.
const MAX_INSIDE: u64 = 1 << 30;
/// Where lines of the cache begin; of the arena and its parts, and of the weights.
const ALIGNMENT: usize = 64;

/// What a header tells beside what the image does.
pub(crate) struct Facts {
    /// Names of the classes.
    pub labels: Vec<String>,
    /// For each input, how pictures become it.
    pub preprocess: Vec<Option<Vec<String>>>,
}

/// A network that is ready to be written.
pub(crate) struct Bare<'a> {
    image: &'a Image,
    target: &'a Target,
    facts: Facts,
    /// What the names of its functions begin with.
    prefix: String,
    code: entry::Code,
    sizes: Sizes,
    /// What weights apart end with.
    check: Option<u64>,
}

/// Bytes. The arena is activations, record, and the scratch of each worker.
struct Sizes {
    activations: usize,
    record: usize,
    /// Of one worker.
    scratch: usize,
    /// With what they end with.
    weights: usize,
}

impl<'a> Bare<'a> {
    /// `prefix` is what names begin with, of `None` the network's name as C can have it. Weights that are `apart` are
    /// an argument of the functions.
    ///
    /// # Errors
    /// Where the network is none for an object, or `prefix` no name.
    pub(crate) fn new(
        image: &'a Image,
        target: &'a Target,
        facts: Facts,
        prefix: Option<&str>,
        apart: bool,
    ) -> Result<Self, Error> {
        let manifest = &image.manifest;
        if let Some(state) = manifest.states.first() {
            return Err(Error::States(state.name.clone()));
        }
        let ports = || manifest.inputs.iter().chain(&manifest.outputs);
        if let Some(port) = ports().find(|port| port.raw) {
            return Err(Error::Element { port: port.name.clone(), element: port.element.to_string() });
        }
        let bytes = image.weights.len() as u64;
        if !apart && bytes > MAX_INSIDE {
            return Err(Error::Weights { bytes });
        }
        let prefix = match prefix {
            Some(prefix) if names::is_identifier(prefix) => prefix.to_string(),
            Some(prefix) => return Err(Error::Prefix(prefix.into())),
            None => names::identifier(&manifest.name),
        };
        let check = apart.then(|| xxh3_64(&image.weights));
        let aligned = |bytes: u64| (bytes as usize).next_multiple_of(ALIGNMENT);
        let slots = Slot::States.index([manifest.inputs.len(), manifest.outputs.len()]);
        let sizes = Sizes {
            activations: aligned(manifest.arena_bytes),
            // The frame, the share's function, the number of parts.
            record: aligned(8 * (slots as u64 + 2)),
            scratch: aligned(manifest.scratch_bytes),
            weights: aligned(bytes) + if apart { ALIGNMENT } else { 0 },
        };
        let code = entry::assemble(manifest, &image.code, &sizes, target, check).map_err(Box::new)?;
        Ok(Self { image, target, facts, prefix, code, sizes, check })
    }

    /// The text of the header.
    pub(crate) fn header(&self) -> String {
        header::text(self)
    }

    /// Writes the object.
    ///
    /// # Errors
    /// As for any writing.
    pub(crate) fn write_object(&self, sink: impl Write) -> io::Result<()> {
        elf::write(self, sink)
    }

    /// Writes a static library that holds the object.
    ///
    /// # Errors
    /// As for any writing.
    pub(crate) fn write_library(&self, mut sink: impl Write) -> io::Result<()> {
        let mut length = Length(0);
        self.write_object(&mut length)?;
        let functions = ["run", "run_parallel", "supported"].map(|name| self.function(name));
        archive::begin(&mut sink, &format!("{}.o", self.prefix), length.0, &functions)?;
        self.write_object(&mut sink)?;
        archive::end(&mut sink, length.0)
    }

    /// Writes the weights that are apart: as they are packed, zeros, and at the end their checksum, by which functions
    /// tell them from others.
    ///
    /// # Errors
    /// As for any writing.
    pub(crate) fn write_weights(&self, mut sink: impl Write) -> io::Result<()> {
        sink.write_all(&self.image.weights)?;
        let padding = self.sizes.weights - 8 - self.image.weights.len();
        sink.write_all(&[0; 2 * ALIGNMENT][..padding])?;
        sink.write_all(&self.check.unwrap_or_default().to_le_bytes())?;
        sink.flush()
    }

    /// A function's name.
    fn function(&self, name: &str) -> String {
        format!("{}_{name}", self.prefix)
    }

    /// The weights within the object, if there are any; code that reads none must not refer to nothing.
    fn weights_inside(&self) -> Option<Cow<'a, [u8]>> {
        match (self.check, self.image.weights.is_empty()) {
            (Some(_), _) => None,
            (None, true) => Some(Cow::Borrowed(&[0; ALIGNMENT])),
            (None, false) => Some(Cow::Borrowed(&self.image.weights)),
        }
    }
}

/// Counts what is written.
struct Length(u64);

impl Write for Length {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
