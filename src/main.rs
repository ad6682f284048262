//! The program `netc`: `src/cli`, and nothing else.

fn main() -> std::process::ExitCode {
    netc::internals::cli::main()
}
