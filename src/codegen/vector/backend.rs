//! The back ends: which of them compiles a function, by the target's architecture.
//!
//! A back end is a row of [`BACK_ENDS`]. Linking, `netc ir` and tests ask here and nowhere else; a
//! kernel's author does not ask at all.

use super::{Compiled, Function, clif, x86};
use crate::target::{Architecture, Target};

/// Why a function has no code.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Clif(#[from] clif::Error),
    #[error(transparent)]
    X86(#[from] x86::Error),
    #[error("kernel {function} is for vectors of {lanes} lanes, which the target's features do not include")]
    Unit { function: String, lanes: usize },
}

/// Makes machine code of vector functions, for one target.
pub(crate) trait BackEnd: Send + Sync {
    /// Whether it compiles functions of this one's width.
    fn takes(&self, function: &Function) -> bool;

    /// The machine code of a function that it takes.
    ///
    /// # Errors
    /// Where the function exceeds what the back end can do: a mistake of the kernel's author.
    fn compile(&self, function: &Function) -> Result<Compiled, Error>;

    /// The instructions of a function that it takes, one a line.
    ///
    /// # Errors
    /// As [`Self::compile`].
    fn listing(&self, function: &Function) -> Result<String, Error>;
}

/// Makes a back end for a target of its architecture.
type New = fn(&Target) -> Result<Box<dyn BackEnd>, Error>;

/// For each architecture its back ends; the first that takes a function compiles it.
const BACK_ENDS: &[(Architecture, &[New])] = &[
    (Architecture::X86_64, &[|target| Ok(Box::new(x86::Assembler::new(target))), cranelift]),
    (Architecture::Aarch64, &[cranelift]),
];

fn cranelift(target: &Target) -> Result<Box<dyn BackEnd>, Error> {
    Ok(Box::new(clif::Compiler::new(target)?))
}

/// All back ends of a target.
pub(crate) struct BackEnds(Vec<Box<dyn BackEnd>>);

impl BackEnds {
    /// # Errors
    /// Where the target's features are below what its back ends need.
    pub(crate) fn new(target: &Target) -> Result<Self, Error> {
        let of_architecture = BACK_ENDS.iter().find(|(architecture, _)| *architecture == target.architecture);
        let (_, list) = of_architecture.expect("every architecture is listed");
        list.iter().map(|new| new(target)).collect::<Result<_, _>>().map(Self)
    }

    /// The back end for a function.
    ///
    /// # Errors
    /// Where the target's features do not include vectors of the function's width.
    pub(crate) fn of(&self, function: &Function) -> Result<&dyn BackEnd, Error> {
        let unit = || Error::Unit { function: function.name.clone(), lanes: function.unit.lanes };
        self.0.iter().find(|b| b.takes(function)).map(|b| &**b).ok_or_else(unit)
    }
}
