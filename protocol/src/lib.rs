//! What travels between a server and its callers.
//!
//! Owns the forms: the messages, service and client of the gRPC door. Refuses to connect, and to know what a command does.

pub mod grpc;
