//! Exports the interposed functions from every executable: some crates find them by name at run time.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-link-arg=-Wl,--export-dynamic");
}
