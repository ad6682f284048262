//! Objects: a network as a file that linkers take, with a header for C.

use std::fs::File;
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

use super::{Compiled, Compiler, Error, Network, Stage};
use crate::artifact::WriteError;
use crate::codegen::bare::{Bare, Facts};
use crate::interop::text;
use crate::output::{Files, OutputFile, keep};

/// What is written for a linker, and how. See [`Compiler::write_object`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ObjectOptions {
    /// What is written at the output's path.
    pub form: ObjectForm,
    /// What the names of functions and constants begin with; the network's name otherwise.
    pub prefix: Option<String>,
    /// Where the weights go, if they are not to be a part of the object. Functions then take their address.
    pub weights: Option<PathBuf>,
}

/// What is written for a linker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ObjectForm {
    /// A relocatable ELF file, and the header beside it.
    #[default]
    Object,
    /// An archive that holds the object, and the header beside it.
    StaticLibrary,
    /// The header alone.
    Header,
}

impl ObjectForm {
    /// The extension of a file of that form.
    pub fn extension(self) -> &'static str {
        match self {
            ObjectForm::Object => "o",
            ObjectForm::StaticLibrary => "a",
            ObjectForm::Header => "h",
        }
    }
}

impl ObjectOptions {
    /// All files that are written: the one at `output`, the header beside it (the same name with `.h`), and the weights.
    pub fn files(&self, output: &Path) -> Vec<PathBuf> {
        let header = (self.form != ObjectForm::Header).then(|| output.with_extension("h"));
        [output.to_path_buf()].into_iter().chain(header).chain(self.weights.clone()).collect()
    }
}

impl Compiler {
    /// Writes an optimized network as an object that needs no library, allocator, threads or operating system, and the
    /// header that declares its functions (`docs/OBJECTS.md`). A batch is fixed in it. The files appear when all are
    /// complete.
    ///
    /// # Errors
    /// Where code generation fails; where the network has states, ports of other numbers than f32 can hold, or more
    /// weights than fit; where `prefix` is no name in C; where a file cannot be written, or would replace another of these
    /// or one that is read. Then nothing is written.
    pub fn write_object(&self, network: &Network, output: &Path, options: &ObjectOptions) -> Result<Compiled, Error> {
        let files = options.files(output);
        let mut distinct = Files::default();
        for path in &files {
            let unwritten = |cause| WriteError { path: path.clone(), cause };
            keep(path, network.graph.weights.files.iter().chain(&self.tuning)).map_err(unwritten)?;
            if !distinct.add(path) {
                let twice = io::Error::new(io::ErrorKind::InvalidInput, "two of what is written would be one file");
                return Err(unwritten(twice).into());
            }
        }
        let (_, image) = self.generate(network)?;
        let facts = self.facts(network);
        let bare = Bare::new(&image, &self.target, facts, options.prefix.as_deref(), options.weights.is_some());
        let bare = bare.map_err(|cause| Error::Bare { path: output.into(), cause })?;
        self.begin(Stage::Write);
        let write_header = |mut sink: BufWriter<&File>| io::Write::write_all(&mut sink, bare.header().as_bytes());
        let mut written = vec![match options.form {
            ObjectForm::Object => write(output, |sink| bare.write_object(sink))?,
            ObjectForm::StaticLibrary => write(output, |sink| bare.write_library(sink))?,
            ObjectForm::Header => write(output, write_header)?,
        }];
        if options.form != ObjectForm::Header {
            written.push(write(&files[1], write_header)?);
        }
        if let Some(path) = &options.weights {
            written.push(write(path, |sink| bare.write_weights(sink))?);
        }
        for (path, file) in written {
            file.commit().map_err(|cause| WriteError { path, cause })?;
        }
        Ok(Compiled::of_image(image))
    }

    /// What a header tells beside what code needs.
    fn facts(&self, network: &Network) -> Facts {
        let about = self.about(network);
        let preprocess = about.preprocess.iter().map(|steps| steps.as_ref().map(text::steps));
        Facts { preprocess: preprocess.collect(), labels: about.labels }
    }
}

/// A file that is complete and waits for its name.
fn write(
    path: &Path,
    content: impl FnOnce(BufWriter<&File>) -> io::Result<()>,
) -> Result<(PathBuf, OutputFile), WriteError> {
    let write = || {
        let output = OutputFile::create(path)?;
        content(BufWriter::new(output.file()))?;
        Ok(output)
    };
    let written = write().map_err(|cause| WriteError { path: path.into(), cause });
    Ok((path.into(), written?))
}
