//! The CPU as data: what a model is compiled for.
//!
//! A [`Target`] names the features that the code may use, the vector unit that they give and the
//! cache sizes that the cost model counts with. Nothing here generates code.

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
    /// AVX-512F.
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
const AVX512: &[&str] = &["avx", "avx2", "avx512f", "fma", "sse4.1"];

impl Target {
    /// The widest unit that this machine has.
    pub fn host() -> Self {
        let best = [AVX512, AVX2, FMA].into_iter().find(|list| list.iter().all(|f| host_has(f)));
        Self::of(best.unwrap_or(BASELINE))
    }

    /// A target by name, for tests and for compiling on one machine for another.
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
            () if has("avx512f") => Unit::V512,
            () if has("avx2") && has("fma") => Unit::V256,
            () => Unit::V128,
        };
        // Typical of current cores; they only weigh alternatives against each other.
        let caches = Caches { l1: 32 << 10, l2: 1 << 20, l3: 16 << 20 };
        Self { unit, features: features.to_vec(), caches }
    }

    /// Whether this machine can run the target's code.
    pub fn runs_here(&self) -> bool {
        self.features.iter().all(|f| host_has(f))
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
        _ => false,
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn host_has(_feature: &str) -> bool {
    false
}
