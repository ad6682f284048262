//! The CPU as data: what a model is compiled for.
//!
//! A [`Target`] names the architecture, the features that the code may use, the vector [`Unit`] that
//! they give, and what the cost model counts with: a [`Core`] and its [`Caches`]. Nothing here
//! generates code.
//!
//! Features come in two kinds. Those of the target itself are demanded by all code that is made for
//! it. *Extensions* are instructions that kernels may ask the unit for, such as dot products of 8-bit
//! elements: code demands an extension only where it uses it, so that an f32 network compiled on a CPU
//! that has them runs on one that has not.
//!
//! A new CPU is a row in the table [`NAMED`]; a new architecture also a back end
//! (`codegen::vector::BACK_ENDS`).

mod core;
mod unit;

pub(crate) use self::core::{Caches, Core};
pub(crate) use unit::Unit;

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
    /// The instruction set.
    pub architecture: Architecture,
    /// What its vectors are and can do.
    pub unit: Unit,
    /// CPU features that all code uses, by Rust's names, sorted.
    pub features: Vec<&'static str>,
    /// CPU features that code may use besides, sorted, and what they give is part of the unit. Code that
    /// does not use them does not demand them.
    pub extensions: Vec<&'static str>,
    /// What a core does in a cycle, by which the plan estimates.
    pub core: Core,
    /// Sizes of the caches, by which the plan estimates.
    pub caches: Caches,
}

/// A target that has a name, without caches: those are typical ones or this machine's.
struct Named {
    name: &'static str,
    architecture: Architecture,
    unit: Unit,
    features: &'static [&'static str],
    extensions: &'static [Extension],
    core: Core,
}

/// A feature that some CPUs of a named target have.
struct Extension {
    feature: &'static str,
    /// Every CPU that has the target's features has it: it belongs to the target by name.
    common: bool,
    /// The unit with what the feature gives.
    give: fn(Unit) -> Unit,
}

/// The targets by name. Of one architecture, the widest unit comes first and one that every CPU has
/// last.
const NAMED: &[Named] = &[
    Named {
        name: "avx512",
        architecture: Architecture::X86_64,
        unit: Unit::V512,
        features: &["avx", "avx2", "avx512f", "avx512vl", "fma", "sse4.1"],
        extensions: &[
            Extension { feature: "avx512bf16", common: false, give: |unit| Unit { dot_bf16: true, ..unit } },
            Extension { feature: "avx512bw", common: true, give: |unit| Unit { narrow: true, ..unit } },
            Extension { feature: "avx512vnni", common: false, give: dot_products_of_integers },
        ],
        core: Core::X86_V512,
    },
    Named {
        name: "avx2",
        architecture: Architecture::X86_64,
        unit: Unit::V256,
        features: &["avx", "avx2", "fma", "sse4.1"],
        extensions: &[Extension { feature: "avxvnni", common: false, give: dot_products_of_integers }],
        core: Core::X86,
    },
    Named {
        name: "fma",
        architecture: Architecture::X86_64,
        unit: Unit::V128,
        features: &["avx", "fma", "sse4.1"],
        extensions: &[],
        core: Core::X86,
    },
    Named {
        name: "baseline",
        architecture: Architecture::X86_64,
        unit: Unit::V128,
        features: &["sse4.1"],
        extensions: &[],
        core: Core::X86,
    },
    Named {
        name: "aarch64",
        architecture: Architecture::Aarch64,
        unit: Unit::NEON,
        features: &["neon"],
        extensions: &[],
        core: Core::AARCH64,
    },
];

fn dot_products_of_integers(unit: Unit) -> Unit {
    Unit { dot_u8i8: true, dot_i16: true, ..unit }
}

/// Why a name is no target's.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum UnknownTarget {
    #[error("unknown target features `{0}`: use host, {names}", names = names(", ", " or "))]
    Name(String),
    #[error("target features `{target}` have no extension `{extension}`{known}", known = known_extensions(target))]
    Extension { target: String, extension: String },
}

fn known_extensions(target: &str) -> String {
    let named = NAMED.iter().find(|t| t.name == target);
    let known: Vec<&str> = named.into_iter().flat_map(|t| t.extensions).map(|e| e.feature).collect();
    if known.is_empty() { String::new() } else { format!(": use {}", known.join(", ")) }
}

/// The names of all targets but `host`, as a list in words.
fn names(between: &str, last: &str) -> String {
    let names: Vec<&str> = NAMED.iter().map(|t| t.name).collect();
    let (end, rest) = names.split_last().expect("there are targets");
    format!("{}{last}{end}", rest.join(between))
}

impl Target {
    /// The widest unit that this machine has, with the extensions that it has, its core and its caches. On a
    /// machine that no code can be made for, a target that does not run here.
    pub fn host() -> Self {
        let runs = |t: &&Named| Some(t.architecture) == Architecture::host() && t.features.iter().all(|f| cpu::has(f));
        let of_architecture = |t: &&Named| Some(t.architecture) == Architecture::host();
        let best = NAMED.iter().find(runs).or_else(|| NAMED.iter().rfind(of_architecture)).unwrap_or(&NAMED[0]);
        let core = Core::of_host(best.core);
        Self { core, caches: Caches::of_host(), ..best.target(|e| cpu::has(e.feature)) }
    }

    /// A target by name, for tests and for compiling on one machine for another: `avx512`, or with
    /// extensions `avx512+avx512vnni`. All but `host` have typical caches.
    ///
    /// # Errors
    /// When the name is neither `host` nor one of [`Self::names`], or an extension is not the target's.
    pub fn parse(name: &str) -> Result<Self, UnknownTarget> {
        if name == "host" {
            return Ok(Self::host());
        }
        let (base, extensions) = name.split_once('+').map_or((name, vec![]), |(b, e)| (b, e.split('+').collect()));
        let unknown = || UnknownTarget::Name(name.into());
        let named = NAMED.iter().find(|t| t.name == base).ok_or_else(unknown)?;
        let is_known = |name: &str| named.extensions.iter().any(|e| e.feature == name);
        if let Some(&extension) = extensions.iter().find(|e| !is_known(e)) {
            return Err(UnknownTarget::Extension { target: base.into(), extension: extension.into() });
        }
        Ok(named.target(|e| e.common || extensions.contains(&e.feature)))
    }

    /// The same target with all extensions that this machine has, for tests of what they give.
    #[cfg(test)]
    pub(crate) fn with_extensions_of_host(self) -> Self {
        let named = NAMED.iter().find(|t| t.architecture == self.architecture && t.features == self.features);
        named.expect("a target by name").target(|e| cpu::has(e.feature))
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
        let extended = |named: &Named| named.target(|e| self.extensions.contains(&e.feature)).unit;
        let is_known = |named: &Named| named.unit == self.unit || extended(named) == self.unit;
        NAMED.iter().any(|named| named.architecture == self.architecture && is_known(named))
    }

    /// Whether this machine can run the target's code.
    pub fn runs_here(&self) -> bool {
        let mut used = self.features.iter().chain(&self.extensions);
        Some(self.architecture) == Architecture::host() && used.all(|f| cpu::has(f))
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
        self.features.contains(&feature) || self.extensions.contains(&feature)
    }
}

impl Named {
    /// With the extensions that are asked for.
    fn target(&self, with: impl Fn(&Extension) -> bool) -> Target {
        let extensions: Vec<&Extension> = self.extensions.iter().filter(|e| with(e)).collect();
        Target {
            architecture: self.architecture,
            unit: extensions.iter().fold(self.unit, |unit, extension| (extension.give)(unit)),
            features: self.features.to_vec(),
            extensions: extensions.iter().map(|e| e.feature).collect(),
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
    fn extensions_add_to_the_unit_and_are_not_demanded() {
        let plain = Target::parse("avx512").unwrap();
        assert_eq!(plain.unit, Unit { narrow: true, ..Unit::V512 });
        assert_eq!(plain.extensions, ["avx512bw"]);
        let extended = Target::parse("avx512+avx512vnni").unwrap();
        assert_eq!(extended.unit, Unit { dot_u8i8: true, dot_i16: true, ..plain.unit });
        assert_eq!(extended.features, plain.features);
        assert!(extended.has("avx512vnni") && !plain.has("avx512vnni"));
        assert!(extended.has_known_unit() && plain.has_known_unit());
        assert!(!Target { unit: extended.unit, ..plain }.has_known_unit(), "the unit exceeds what the features give");
    }

    #[test]
    fn an_extension_belongs_to_its_target() {
        let message = |name| Target::parse(name).unwrap_err().to_string();
        assert_eq!(message("avx2+avx512vnni"), "target features `avx2` have no extension `avx512vnni`: use avxvnni");
        assert_eq!(message("fma+avxvnni"), "target features `fma` have no extension `avxvnni`");
        assert_eq!(
            message("host+avxvnni"),
            "unknown target features `host+avxvnni`: use host, avx512, avx2, fma, baseline or aarch64"
        );
    }

    #[test]
    fn another_architecture_does_not_run_here() {
        let foreign = NAMED.iter().filter(|t| Some(t.architecture) != Architecture::host());
        assert!(foreign.map(|t| t.target(|_| true)).all(|t| !t.runs_here()));
    }
}
