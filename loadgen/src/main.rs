//! The `tp-loadgen` command. Owns the allocator of the process; everything else is in the library.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    tp_loadgen::cli::main()
}
