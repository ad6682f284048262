//! The CPU as data: what a model is compiled for.
//!
//! A [`Target`] names the architecture, the features that the code may use, the vector [`Unit`] that
//! they give, and what the cost model counts with: a [`Core`] and its [`Caches`]. Nothing here
//! generates code. A new CPU is a row in the table [`NAMED`]; a new architecture also a back end
//! (`codegen::vector::BACK_ENDS`).

mod core;
mod unit;

pub use self::core::{Caches, Core};
pub use unit::Unit;

use crate::cpu;

/// An instruction set, with the calling convention and the relocations that go with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Architecture {
    X86_64,
    Aarch64,
}

impl Architecture {
    /// As Rust names it; so do compiled files.
    pub fn name(self) -> &'static str {
        match self {
            Architecture::X86_64 => "x86_64",
            Architecture::Aarch64 => "aarch64",
        }
    }

    /// This machine's, where code can be made for it.
    pub fn host() -> Option<Architecture> {
        [Architecture::X86_64, Architecture::Aarch64].into_iter().find(|a| a.name() == std::env::consts::ARCH)
    }
}

/// What a model is compiled for.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    pub architecture: Architecture,
    pub unit: Unit,
    /// CPU features that the code may use, by Rust's names, sorted.
    pub features: Vec<&'static str>,
    pub core: Core,
    pub caches: Caches,
}

/// A target that has a name, without caches: those are typical ones or this machine's.
struct Named {
    name: &'static str,
    architecture: Architecture,
    unit: Unit,
    features: &'static [&'static str],
    core: Core,
}

/// The targets by name. Of one architecture, the widest unit comes first and one that every CPU has
/// last.
const NAMED: &[Named] = &[
    Named {
        name: "avx512",
        architecture: Architecture::X86_64,
        unit: Unit::V512,
        features: &["avx", "avx2", "avx512f", "avx512vl", "fma", "sse4.1"],
        core: Core::X86_V512,
    },
    Named {
        name: "avx2",
        architecture: Architecture::X86_64,
        unit: Unit::V256,
        features: &["avx", "avx2", "fma", "sse4.1"],
        core: Core::X86,
    },
    Named {
        name: "fma",
        architecture: Architecture::X86_64,
        unit: Unit::V128,
        features: &["avx", "fma", "sse4.1"],
        core: Core::X86,
    },
    Named {
        name: "baseline",
        architecture: Architecture::X86_64,
        unit: Unit::V128,
        features: &["sse4.1"],
        core: Core::X86,
    },
    Named {
        name: "aarch64",
        architecture: Architecture::Aarch64,
        unit: Unit::NEON,
        features: &["neon"],
        core: Core::AARCH64,
    },
];

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("unknown target features `{0}`: use host, {names}", names = names(", ", " or "))]
pub struct UnknownTarget(pub String);

/// The names of all targets but `host`, as a list in words.
fn names(between: &str, last: &str) -> String {
    let names: Vec<&str> = NAMED.iter().map(|t| t.name).collect();
    let (end, rest) = names.split_last().expect("there are targets");
    format!("{}{last}{end}", rest.join(between))
}

impl Target {
    /// The widest unit that this machine has, and its caches. On a machine that no code can be made
    /// for, a target that does not run here.
    pub fn host() -> Self {
        let runs = |t: &&Named| Some(t.architecture) == Architecture::host() && t.features.iter().all(|f| cpu::has(f));
        let of_architecture = |t: &&Named| Some(t.architecture) == Architecture::host();
        let best = NAMED.iter().find(runs).or_else(|| NAMED.iter().rfind(of_architecture)).unwrap_or(&NAMED[0]);
        Self { caches: Caches::of_host(), ..best.target() }
    }

    /// A target by name, for tests and for compiling on one machine for another. All but `host` have
    /// typical caches.
    ///
    /// # Errors
    /// When the name is neither `host` nor one of [`Self::names`].
    pub fn parse(name: &str) -> Result<Self, UnknownTarget> {
        if name == "host" {
            return Ok(Self::host());
        }
        let named = NAMED.iter().find(|t| t.name == name);
        named.map(Named::target).ok_or_else(|| UnknownTarget(name.into()))
    }

    /// What [`Self::parse`] takes besides `host`.
    pub fn names() -> impl Iterator<Item = &'static str> {
        NAMED.iter().map(|t| t.name)
    }

    /// This machine's processor, with all that changes how fast the target's code runs on it.
    pub fn processor(&self) -> String {
        let Caches { l1, l2, l3 } = Caches::of_host();
        let [l1, l2, l3] = [l1, l2, l3].map(|bytes| bytes >> 10);
        let (name, lanes) = (cpu::name(), self.unit.lanes);
        format!("{name}, caches {l1} {l2} {l3} KiB, {lanes} lanes of {}", self.features.join(" "))
    }

    /// Whether the unit is one of the architecture's, with all that back ends take for granted.
    pub fn has_known_unit(&self) -> bool {
        NAMED.iter().any(|named| named.architecture == self.architecture && named.unit == self.unit)
    }

    /// Whether this machine can run the target's code.
    pub fn runs_here(&self) -> bool {
        Some(self.architecture) == Architecture::host() && self.features.iter().all(|f| cpu::has(f))
    }

    /// Whether a multiply-add rounds once.
    pub fn fuses(&self) -> bool {
        match self.architecture {
            Architecture::X86_64 => self.has("fma"),
            Architecture::Aarch64 => true,
        }
    }

    /// Whether code may use the feature.
    pub fn has(&self, feature: &str) -> bool {
        self.features.contains(&feature)
    }
}

impl Named {
    fn target(&self) -> Target {
        Target {
            architecture: self.architecture,
            unit: self.unit,
            features: self.features.to_vec(),
            core: self.core,
            caches: Caches::TYPICAL,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_by_name_are_the_same_everywhere() {
        for name in Target::names() {
            assert_eq!(Target::parse(name).unwrap().caches, Caches::TYPICAL);
        }
        assert_eq!(Target::parse("host").unwrap(), Target::host());
        assert_eq!(
            Target::parse("sse9").unwrap_err().to_string(),
            "unknown target features `sse9`: use host, avx512, avx2, fma, baseline or aarch64"
        );
    }

    #[test]
    fn another_architecture_does_not_run_here() {
        let foreign = NAMED.iter().filter(|t| Some(t.architecture) != Architecture::host());
        assert!(foreign.map(Named::target).all(|t| !t.runs_here()));
    }
}
