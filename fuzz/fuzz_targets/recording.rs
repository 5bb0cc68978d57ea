#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| avi_p2p_fuzz::recording(data));
