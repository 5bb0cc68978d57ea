//! Which program is this? The command line of the simulator; see [`cli`].

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
