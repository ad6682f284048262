//! The name under which programs look for the library when they start.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=src/lib.rs");
    let source = std::fs::read_to_string("src/lib.rs").expect("cargo runs this beside the sources");
    // A program that was built for another interface does not find the library, rather than a wrong one.
    let number = source.split_once("NETC_ABI_VERSION: u32 = ").and_then(|(_, rest)| rest.split_once(';'));
    let (number, _) = number.expect("src/lib.rs states the number of the interface");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libnetc.so.{number}");
    }
}
