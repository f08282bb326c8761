//! The `tp-sim` command.

fn main() -> std::process::ExitCode {
    tp_sim::cli::main()
}
