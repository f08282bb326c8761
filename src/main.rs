//! The `tpcore` command. Owns the allocator of the process and its exit code; everything else is in `cli`.

mod cli;

// The tests have an allocator that counts, of the fuzz targets.
#[cfg(not(test))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    cli::main()
}
