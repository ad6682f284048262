//! What this CPU can do, by the names that images use.

macro_rules! detected {
    ($detect:ident: $($name:tt)*) => { &[$(($name, std::arch::$detect!($name))),*] };
}

/// The features among `needed` that this CPU (or operating system) does not offer. Names that are
/// unknown count as missing.
pub fn missing_features(needed: &[String]) -> Vec<String> {
    #[cfg(target_arch = "x86_64")]
    let known: &[(&str, bool)] = detected!(is_x86_feature_detected:
        "sse2" "sse3" "ssse3" "sse4.1" "sse4.2" "popcnt" "avx" "avx2" "fma" "bmi1" "bmi2" "lzcnt" "f16c"
        "avx512f" "avx512bw" "avx512cd" "avx512dq" "avx512vl" "avx512vnni" "avx512bf16" "avx512vbmi" "avx512fp16");
    #[cfg(target_arch = "aarch64")]
    let known: &[(&str, bool)] =
        detected!(is_aarch64_feature_detected: "neon" "fp16" "dotprod" "i8mm" "bf16" "lse" "paca" "pacg" "sve" "sve2");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let known: &[(&str, bool)] = &[];
    let has = |name: &String| known.iter().any(|(n, has)| n == name && *has);
    needed.iter().filter(|n| !has(n)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_features_are_missing() {
        assert_eq!(missing_features(&["perpetuum".to_string()]), ["perpetuum"]);
        #[cfg(target_arch = "x86_64")]
        assert!(missing_features(&["sse2".to_string()]).is_empty());
    }
}
