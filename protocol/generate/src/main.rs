//! Writes the Rust code and the descriptor set for `protocol/proto`. From the repository's root:
//! `cargo run --manifest-path protocol/generate/Cargo.toml`. No `protoc` is needed.

use std::fs;
use std::path::Path;

use prost::Message as _;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (proto, out) = (here.join("../proto"), here.join("../src/grpc/generated"));
    let mut compiler = protox::Compiler::new([proto])?;
    compiler.include_imports(true).include_source_info(true);
    compiler.open_file("tpcore.proto")?;
    let set = compiler.file_descriptor_set();
    // For reflection: without comments, which are most of its size.
    let mut bare = set.clone();
    for file in &mut bare.file {
        file.source_code_info = None;
    }
    fs::write(out.join("descriptor.bin"), bare.encode_to_vec())?;
    tonic_prost_build::configure().build_server(true).build_client(true).build_transport(false).out_dir(out).compile_fds(set)?;
    Ok(())
}
