//! The CPU as data: what a model is compiled for.
//!
//! A [`Target`] names the features that the code may use, the vector unit that they give and the
//! cache sizes that the cost model counts with. Nothing here generates code.

use std::path::Path;

/// The vector unit that kernels are made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Unit {
    /// f32 elements in a vector: 4, 8 or 16. Also the channel block of layouts.
    pub lanes: usize,
    /// Vector registers that a kernel may use at once without spilling.
    pub registers: usize,
    /// A multiply-add takes a broadcast memory operand at no extra cost.
    pub embedded_broadcast: bool,
}

impl Unit {
    /// 128 bits through Cranelift.
    pub const V128: Unit = Unit { lanes: 4, registers: 15, embedded_broadcast: false };
    /// AVX2 and FMA. One of the sixteen registers is the back end's scratch.
    pub const V256: Unit = Unit { lanes: 8, registers: 15, embedded_broadcast: false };
    /// AVX-512F, and with VL its instructions for half vectors.
    pub const V512: Unit = Unit { lanes: 16, registers: 32, embedded_broadcast: true };

    /// Bytes of one vector.
    pub fn bytes(self) -> usize {
        4 * self.lanes
    }
}

/// Sizes in bytes, of one core's share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caches {
    pub l1: usize,
    pub l2: usize,
    pub l3: usize,
}

impl Caches {
    /// Of current cores on the whole: what a target counts with that is given by name, so that its
    /// plans are the same wherever they are made.
    pub const TYPICAL: Caches = Caches { l1: 32 << 10, l2: 1 << 20, l3: 16 << 20 };

    /// Those of this machine, by what the operating system tells; typical where it tells nothing.
    pub fn of_host() -> Caches {
        Self::read(Path::new("/sys/devices/system/cpu/cpu0/cache"))
    }

    /// From a folder in which Linux describes the caches of a core, one a folder.
    fn read(folder: &Path) -> Caches {
        let listed = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let found: Vec<Described> = listed.filter_map(|entry| Described::read(&entry.path())).collect();
        // CPUs that share the first level are one core.
        let core = found.iter().filter(|c| c.level == "1").map(|c| c.sharers).min().unwrap_or(1);
        let share = |level: &str, otherwise: usize| {
            let cache = found.iter().find(|c| c.level == level);
            let bytes = cache.map(|c| c.bytes / (c.sharers / core).max(1));
            bytes.filter(|b| PLAUSIBLE.contains(b)).unwrap_or(otherwise)
        };
        let typical = Caches::TYPICAL;
        Caches { l1: share("1", typical.l1), l2: share("2", typical.l2), l3: share("3", typical.l3) }
    }
}

/// A cache of data as Linux describes it.
struct Described {
    level: String,
    bytes: usize,
    /// CPUs that have it in common.
    sharers: usize,
}

impl Described {
    fn read(folder: &Path) -> Option<Described> {
        let field = |name: &str| std::fs::read_to_string(folder.join(name)).ok().map(|s| s.trim().to_string());
        let holds_data = field("type")? != "Instruction";
        let sharers = field("shared_cpu_list").map_or(1, |list| sharers(&list));
        holds_data.then_some(Described { level: field("level")?, bytes: size(&field("size")?)?, sharers })
    }
}

/// Shares outside are a virtual machine's mistake.
const PLAUSIBLE: std::ops::RangeInclusive<usize> = 4 << 10..=1 << 30;

/// `32K` or `8M` in bytes.
fn size(text: &str) -> Option<usize> {
    let (digits, factor) = match text.strip_suffix('K') {
        Some(digits) => (digits, 1 << 10),
        None => (text.strip_suffix('M')?, 1 << 20),
    };
    digits.parse::<usize>().ok()?.checked_mul(factor)
}

/// How many CPUs a list such as `0-3,8-11` names; at least one.
fn sharers(list: &str) -> usize {
    let count = |range: &str| match range.split_once('-') {
        Some((first, last)) => Some(last.parse::<usize>().ok()?.checked_sub(first.parse().ok()?)? + 1),
        None => range.parse::<usize>().ok().map(|_| 1),
    };
    list.split(',').filter_map(count).sum::<usize>().max(1)
}

/// What a model is compiled for.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    pub unit: Unit,
    /// CPU features that the code may use, by Rust's names, sorted.
    pub features: Vec<&'static str>,
    pub caches: Caches,
}

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("unknown target features `{0}`: use host, avx512, avx2, fma or baseline")]
pub struct UnknownTarget(pub String);

const BASELINE: &[&str] = &["sse4.1"];
const FMA: &[&str] = &["avx", "fma", "sse4.1"];
const AVX2: &[&str] = &["avx", "avx2", "fma", "sse4.1"];
const AVX512: &[&str] = &["avx", "avx2", "avx512f", "avx512vl", "fma", "sse4.1"];

impl Target {
    /// The widest unit that this machine has, and its caches.
    pub fn host() -> Self {
        let best = [AVX512, AVX2, FMA].into_iter().find(|list| list.iter().all(|f| host_has(f)));
        Self { caches: Caches::of_host(), ..Self::of(best.unwrap_or(BASELINE)) }
    }

    /// A target by name, for tests and for compiling on one machine for another. All but `host` have
    /// typical caches.
    ///
    /// # Errors
    /// When the name is none of `host`, `avx512`, `avx2`, `fma`, `baseline`.
    pub fn parse(name: &str) -> Result<Self, UnknownTarget> {
        match name {
            "host" => Ok(Self::host()),
            "avx512" => Ok(Self::of(AVX512)),
            "avx2" => Ok(Self::of(AVX2)),
            "fma" => Ok(Self::of(FMA)),
            "baseline" => Ok(Self::of(BASELINE)),
            _ => Err(UnknownTarget(name.into())),
        }
    }

    fn of(features: &[&'static str]) -> Self {
        let has = |f| features.contains(&f);
        let unit = match () {
            () if has("avx512f") && has("avx512vl") => Unit::V512,
            () if has("avx2") && has("fma") => Unit::V256,
            () => Unit::V128,
        };
        Self { unit, features: features.to_vec(), caches: Caches::TYPICAL }
    }

    /// This machine's processor, with all that changes how fast the target's code runs on it.
    pub fn processor(&self) -> String {
        let described = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let name = described.lines().find_map(|l| l.strip_prefix("model name")?.trim_start().strip_prefix(':'));
        let Caches { l1, l2, l3 } = Caches::of_host();
        let [l1, l2, l3] = [l1, l2, l3].map(|bytes| bytes >> 10);
        let name = name.map_or(std::env::consts::ARCH, str::trim);
        format!("{name}, caches {l1} {l2} {l3} KiB, {} lanes of {}", self.unit.lanes, self.features.join(" "))
    }

    /// Whether this machine can run the target's code.
    pub fn runs_here(&self) -> bool {
        self.features.iter().all(|f| host_has(f))
    }

    /// Whether a multiply-add rounds once.
    pub fn fuses(&self) -> bool {
        self.has("fma") || cfg!(target_arch = "aarch64")
    }

    /// Whether code may use the feature.
    pub fn has(&self, feature: &str) -> bool {
        self.features.contains(&feature)
    }
}

#[cfg(target_arch = "x86_64")]
fn host_has(feature: &str) -> bool {
    match feature {
        "sse4.1" => is_x86_feature_detected!("sse4.1"),
        "avx" => is_x86_feature_detected!("avx"),
        "avx2" => is_x86_feature_detected!("avx2"),
        "fma" => is_x86_feature_detected!("fma"),
        "avx512f" => is_x86_feature_detected!("avx512f"),
        "avx512vl" => is_x86_feature_detected!("avx512vl"),
        _ => false,
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn host_has(_feature: &str) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder as Linux has it: name, level, type, size, sharers.
    fn described(caches: &[[&str; 5]]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for [name, fields @ ..] in caches {
            let cache = folder.path().join(name);
            std::fs::create_dir(&cache).unwrap();
            for (field, value) in ["level", "type", "size", "shared_cpu_list"].iter().zip(fields) {
                std::fs::write(cache.join(field), format!("{value}\n")).unwrap();
            }
        }
        folder
    }

    #[test]
    fn caches_are_read_by_core() {
        let folder = described(&[
            ["index0", "1", "Data", "48K", "0,64"],
            ["index1", "1", "Instruction", "32K", "0,64"],
            ["index2", "2", "Unified", "2048K", "0,64"],
            ["index3", "3", "Unified", "96M", "0-7,64-71"],
        ]);
        // Sixteen CPUs in eight cores.
        assert_eq!(Caches::read(folder.path()), Caches { l1: 48 << 10, l2: 2 << 20, l3: 12 << 20 });
    }

    #[test]
    fn what_is_not_told_is_typical() {
        assert_eq!(Caches::read(Path::new("/nonexistent")), Caches::TYPICAL);
        let folder = described(&[
            ["index0", "1", "Data", "0K", "0"],
            ["index2", "2", "Unified", "huge", "0"],
            ["index3", "3", "Unified", "8M", "nobody"],
        ]);
        assert_eq!(Caches::read(folder.path()), Caches { l3: 8 << 20, ..Caches::TYPICAL });
    }

    #[test]
    fn targets_by_name_are_the_same_everywhere() {
        for name in ["avx512", "avx2", "fma", "baseline"] {
            assert_eq!(Target::parse(name).unwrap().caches, Caches::TYPICAL);
        }
        assert_eq!(Target::parse("host").unwrap(), Target::host());
        assert!(Target::parse("sse9").is_err());
    }
}
