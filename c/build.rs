//! The name under which programs look for the library when they start.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        // The number changes when a program that was built before would no longer work: `NETC_ABI_VERSION`.
        println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libnetc.so.0");
    }
}
