//! The gRPC door, generated from `protocol/proto/tpcore.proto` by `protocol/generate`: messages, the service and a client for any tonic
//! transport. `docs/src/grpc.md` says what they mean.
#![allow(clippy::all, clippy::pedantic, missing_docs, unreachable_pub, reason = "generated")]

include!("grpc/generated/tpcore.v1.rs");

/// The descriptor set, for reflection.
pub const DESCRIPTOR: &[u8] = include_bytes!("grpc/generated/descriptor.bin");
