#![no_main]

// The engine's source, and not its crate: that one has libp2p in its tree.
#[allow(dead_code, unused_imports, reason = "the crate exports it")]
#[path = "../../device/src/gateway/engine/mod.rs"]
mod engine;
#[path = "../src/gateway.rs"]
mod gateway;
#[allow(dead_code, reason = "other targets need the rest")]
#[path = "../src/script.rs"]
mod script;

libfuzzer_sys::fuzz_target!(|data: &[u8]| gateway::gateway(data));
