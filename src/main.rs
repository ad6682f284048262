fn main() -> std::process::ExitCode {
    netc::internals::cli::main()
}
