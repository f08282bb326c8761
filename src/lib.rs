//! The tpcore facade.
