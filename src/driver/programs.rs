//! Programs of one network for several sizes of its inputs, made one after the other into one artifact.
//!
//! ```text
//! Network, for the first size ─┐
//! Network, for the next one ───┼─add─▶ code behind code, weights once ─finish─▶ Bundle ─▶ Model | .netc file
//! …                            ┘
//! ```
//!
//! Each program is planned for its own sizes. What one packs of the same numbers in the same order as one before it is
//! not packed again (`codegen::packing::Earlier`): so layers share weights where the plan chose the same kernel and tile.

use std::path::{Path, PathBuf};

use super::error::codegen_error;
use super::generation::Room;
use super::{Compiled, Compiler, Error, Network, Stage};
use crate::artifact::{Bundle, Destination, WriteError, Writer, check_programs};
use crate::codegen;
use crate::codegen::packing::Earlier;
use crate::output::keep;

/// Programs on their way into one artifact.
pub(super) struct Programs {
    destination: Destination,
    earlier: Earlier,
    bundle: Option<Bundle>,
}

impl Programs {
    pub(super) fn new(destination: Destination) -> Self {
        Self { destination, earlier: Earlier::default(), bundle: None }
    }

    /// Adds a program of an optimized network.
    ///
    /// # Errors
    /// Where code generation fails, or the program is for the sizes of one before it, or of another network.
    pub(super) fn add(&mut self, compiler: &Compiler, network: &Network) -> Result<(), Error> {
        let kept = self.bundle.as_ref().map_or(&[][..], |bundle| &bundle.weights[..]);
        let room = Room { destination: &self.destination, earlier: &self.earlier, kept };
        let (generated, image) = compiler.generate_in(network, room)?;
        generated.leave(&network.graph, &mut self.earlier);
        let (about, texts) = (compiler.about(network), network.texts());
        match &mut self.bundle {
            Some(bundle) => bundle.add(image, about, texts),
            None => self.bundle = Some(Bundle::new(image, about, texts)),
        }
        let bundle = self.bundle.as_ref().expect("a program was added");
        let checked = check_programs(&bundle.programs, bundle.code.len(), bundle.weights.len());
        checked.map_err(|message| Error::Sizes { network: network.graph.name.clone(), message })
    }

    /// # Panics
    /// Where there is none.
    pub(super) fn finish(self) -> Bundle {
        self.bundle.expect("there is a program")
    }
}

/// A compiled model under construction: a file that gets programs for several sizes of one network's inputs.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use netc::{Compiler, ModelFile};
///
/// let mut file = ModelFile::create("resnet34.netc")?;
/// for side in [224, 320] {
///     let compiler = Compiler::new().shape("image", [1, 3, side, side]);
///     file.add(&compiler, &compiler.optimized("resnet34.net".as_ref())?)?;
/// }
/// file.finish()?;
/// # Ok(()) }
/// ```
pub struct ModelFile {
    path: PathBuf,
    writer: Writer,
    programs: Programs,
    /// Who writes it, for whoever is told.
    compiler: Option<Compiler>,
}

impl ModelFile {
    /// Begins the file that is to be at `path`. It appears there when it is finished.
    ///
    /// # Errors
    /// Where nothing can be written there.
    pub fn create(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let writer = Writer::create(path)?;
        let programs = Programs::new(writer.destination()?);
        Ok(Self { path: path.into(), writer, programs, compiler: None })
    }

    /// Adds a program: an optimized network, by the compiler that has read it for these sizes. The first is the one for
    /// whoever names no size. Weights that an earlier program packs alike are not packed again.
    ///
    /// # Errors
    /// Where code generation or writing fails, the file would replace one that the network was read from, or the program is
    /// for the sizes of one before it or of another network.
    pub fn add(&mut self, compiler: &Compiler, network: &Network) -> Result<(), Error> {
        let read = network.graph.weights.files.iter().chain(&compiler.tuning);
        keep(&self.path, read).map_err(|cause| WriteError { path: self.path.clone(), cause })?;
        self.programs.add(compiler, network).map_err(|error| match error {
            // The weights are packed in the file.
            Error::Codegen(error) => unwritten(&self.path, *error),
            error => error,
        })?;
        self.compiler.get_or_insert_with(|| compiler.clone());
        Ok(())
    }

    /// Gives the file its place. Returns what was compiled.
    ///
    /// # Errors
    /// Where writing fails.
    ///
    /// # Panics
    /// Where no program was added.
    pub fn finish(self) -> Result<Compiled, Error> {
        if let Some(compiler) = &self.compiler {
            compiler.begin(Stage::Write);
        }
        let bundle = self.programs.finish();
        let is_small = self.compiler.is_some_and(|compiler| compiler.plan.small);
        if is_small { self.writer.finish_small(&bundle) } else { self.writer.finish(&bundle) }?;
        Ok(bundle.into())
    }
}

fn unwritten(path: &Path, error: codegen::Error) -> Error {
    match error {
        codegen::Error::Memory(cause) => WriteError { path: path.into(), cause }.into(),
        error => codegen_error(error),
    }
}
