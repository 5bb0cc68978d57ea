//! What do libraries get when they ask the system for time or randomness? On a simulation's thread the values of the
//! simulation, on any other thread the real ones.

use std::cell::{Cell, RefCell};
use std::ffi::{c_int, c_void};
use std::time::{Duration, Instant};

use libc::{clockid_t, size_t, ssize_t, timespec};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// The start of the monotonic clock. It is not zero, because an instant minus a duration would underflow.
const MONOTONIC_BASE: Duration = Duration::from_secs(1_000_000);
/// Where the wall clock begins: in November 2023.
const REALTIME_BASE: Duration = Duration::from_secs(1_700_000_000);

struct Simulated {
    active: Cell<bool>,
    /// Whether a call is in progress: outside of a runtime, tokio's clock asks the system's clock.
    inside: Cell<bool>,
    start: Cell<Option<Instant>>,
    now: Cell<Duration>,
    random: RefCell<Option<ChaCha8Rng>>,
    clock_calls: Cell<u64>,
    draws: Cell<u64>,
}

thread_local! {
    static THREAD: Simulated = const {
        Simulated {
            active: Cell::new(false),
            inside: Cell::new(false),
            start: Cell::new(None),
            now: Cell::new(Duration::ZERO),
            random: RefCell::new(None),
            clock_calls: Cell::new(0),
            draws: Cell::new(0),
        }
    };
}

/// How often this thread asked for time and randomness, and its current time. Part of every trace: a difference is a
/// leak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Calls for the time.
    pub clock: u64,
    /// Bytes of randomness.
    pub random: u64,
}

/// Marks this thread as a simulation's. It must be new, because hash maps and generators draw their keys once per
/// thread.
///
/// # Panics
/// If the interposed functions are not in effect, so that a run would only look deterministic.
pub fn begin(seed: u64) {
    THREAD.with(|thread| {
        *thread.random.borrow_mut() = Some(ChaCha8Rng::seed_from_u64(seed));
        thread.active.set(true);
        thread.start.set(Some(Instant::now()));
    });
    assert!(asked().clock > 0, "clock_gettime is not interposed: the executable does not export it");
    let mut drawn = [0; 16];
    // SAFETY: the buffer is 16 bytes long and belongs to this function.
    unsafe { libc::getentropy(drawn.as_mut_ptr().cast(), drawn.len()) };
    assert!(asked().random > 0, "getentropy is not interposed: the executable does not export it");
}

/// What another thread needs to go on with a simulation. See [`hand_over`].
pub struct HandedOver {
    start: Option<Instant>,
    now: Duration,
    asked: Asked,
}

/// Ends this thread's part of a simulation. A new thread may [take it over](take_over) with another seed: everything that
/// draws its randomness once a thread then draws it anew.
pub fn hand_over() -> HandedOver {
    let now = now();
    THREAD.with(|thread| {
        thread.active.set(false);
        *thread.random.borrow_mut() = None;
        HandedOver { start: thread.start.get(), now, asked: asked() }
    })
}

/// Goes on with a simulation on this thread, which must be new.
pub fn take_over(simulation: HandedOver, seed: u64) {
    let HandedOver { start, now, asked } = simulation;
    THREAD.with(|thread| {
        *thread.random.borrow_mut() = Some(ChaCha8Rng::seed_from_u64(seed));
        thread.start.set(start);
        thread.now.set(now);
        thread.clock_calls.set(asked.clock);
        thread.draws.set(asked.random);
        thread.active.set(true);
    });
}

/// Virtual time since [`begin`].
pub fn now() -> Duration {
    THREAD.with(Simulated::virtual_now).unwrap_or_default()
}

/// Sets the time outside of any runtime, for a simulation with several runtimes. The clock of a new runtime starts at
/// this time.
pub fn set_now(now: Duration) {
    THREAD.with(|thread| thread.now.set(now));
}

/// The calls of this thread so far.
pub fn asked() -> Asked {
    THREAD.with(|thread| Asked { clock: thread.clock_calls.get(), random: thread.draws.get() })
}

impl Simulated {
    fn virtual_now(&self) -> Option<Duration> {
        if !self.active.get() {
            return None;
        }
        if !self.inside.replace(true) {
            if let Some(start) = self.start.get() {
                self.now.set(tokio::time::Instant::now().into_std().duration_since(start));
            }
            self.inside.set(false);
        }
        Some(self.now.get())
    }

    fn fill(&self, buffer: &mut [u8]) -> bool {
        match self.random.borrow_mut().as_mut() {
            Some(random) if self.active.get() => {
                random.fill_bytes(buffer);
                self.draws.set(self.draws.get() + 1);
                true
            }
            _ => false,
        }
    }
}

/// The C library's function of the same name.
///
/// # Safety
/// As for the original: `time` points to a `timespec`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: clockid_t, time: *mut timespec) -> c_int {
    // An allocator may ask while a thread ends, when its thread-local values are gone.
    let simulated = THREAD
        .try_with(|thread| thread.virtual_now().inspect(|_| thread.clock_calls.set(thread.clock_calls.get() + 1)));
    match simulated.ok().flatten() {
        Some(now) => {
            let base = if clock == libc::CLOCK_REALTIME { REALTIME_BASE } else { MONOTONIC_BASE };
            let now = base + now;
            // SAFETY: the caller gives a valid pointer.
            unsafe { *time = timespec { tv_sec: now.as_secs() as _, tv_nsec: now.subsec_nanos().into() } };
            0
        }
        // SAFETY: the same arguments are passed to the system.
        None => unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) as c_int },
    }
}

/// The C library's function of the same name.
///
/// # Safety
/// As for the original: `buffer` points to `len` writable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getrandom(buffer: *mut c_void, len: size_t, flags: u32) -> ssize_t {
    // SAFETY: the caller gives `len` writable bytes.
    let simulated = !buffer.is_null() && fill(unsafe { std::slice::from_raw_parts_mut(buffer.cast(), len) });
    match simulated {
        true => len as ssize_t,
        // SAFETY: the same arguments are passed to the system.
        false => unsafe { libc::syscall(libc::SYS_getrandom, buffer, len, flags) as ssize_t },
    }
}

/// The C library's function of the same name.
///
/// # Safety
/// As for the original: `buffer` points to `len` writable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getentropy(buffer: *mut c_void, len: size_t) -> c_int {
    // SAFETY: the caller of this function guarantees it.
    let filled = unsafe { getrandom(buffer, len, 0) };
    if filled == len as ssize_t { 0 } else { -1 }
}

fn fill(buffer: &mut [u8]) -> bool {
    THREAD.try_with(|thread| thread.fill(buffer)).unwrap_or(false)
}
