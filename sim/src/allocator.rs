//! Which allocator has the memory of a simulation? jemalloc, in every executable that contains this crate.
//!
//! Libraries below reserve far more than they use: Kademlia 0.6 MB a node for its buckets, every framed stream 16 KiB.
//! jemalloc keeps its own records elsewhere, so a page that nobody has written to costs no memory.

use tikv_jemallocator::Jemalloc;

#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// The options that jemalloc finds under this name. With them it never asks for the time, so that the trace, which
/// counts such calls, does not depend on it: it keeps freed pages, does not age its caches by time, and has one arena
/// however many processors there are.
#[unsafe(export_name = "_rjem_malloc_conf")]
pub static OPTIONS: &[u8] = b"dirty_decay_ms:-1,muzzy_decay_ms:-1,experimental_tcache_gc:false,narenas:1\0";
