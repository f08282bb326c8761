//! The `tp-sim` command.

/// Images of disks come and go by the megabyte: they are taken from memory that was used before.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    tp_sim::cli::main()
}
