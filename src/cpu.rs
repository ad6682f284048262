//! The processor that this program runs on: its architecture, what it can do, its caches.
//!
//! Asked here once and nowhere else. Compiler and runtime stand on it; it knows neither.

#[cfg(feature = "compile")]
mod described;

#[cfg(feature = "compile")]
pub(crate) use described::{Model, caches, model, name};

macro_rules! detected {
    ($detect:ident: $($name:tt)*) => { &[$(($name, std::arch::$detect!($name))),*] };
}

/// Whether this CPU, and the operating system on it, offers a feature by Rust's name for it. What is
/// unknown is missing.
pub(crate) fn has(feature: &str) -> bool {
    #[cfg(target_arch = "x86_64")]
    let known: &[(&str, bool)] = detected!(is_x86_feature_detected:
        "sse2" "sse3" "ssse3" "sse4.1" "sse4.2" "popcnt" "avx" "avx2" "fma" "bmi1" "bmi2" "lzcnt" "f16c"
        "avx512f" "avx512bw" "avx512cd" "avx512dq" "avx512vl" "avx512vnni" "avx512bf16" "avx512vbmi" "avx512fp16"
        "avxvnni");
    #[cfg(target_arch = "aarch64")]
    let known: &[(&str, bool)] =
        detected!(is_aarch64_feature_detected: "neon" "fp16" "dotprod" "i8mm" "bf16" "lse" "paca" "pacg" "sve" "sve2");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let known: &[(&str, bool)] = &[];
    known.iter().any(|&(name, has)| name == feature && has)
}

/// The features among `needed` that are missing here.
pub(crate) fn missing(needed: &[String]) -> Vec<String> {
    needed.iter().filter(|feature| !has(feature)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_features_are_missing() {
        assert_eq!(missing(&["perpetuum".to_string()]), ["perpetuum"]);
        #[cfg(target_arch = "x86_64")]
        assert!(missing(&["sse2".to_string()]).is_empty());
    }
}
