use std::process::ExitCode;

use intercom::{Options, USAGE, run};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::ERROR)
        .with_writer(std::io::stderr)
        .init();
    let outcome = match Options::parse(std::env::args_os().skip(1)) {
        Ok(Some(options)) => run(options).await,
        Ok(None) => {
            println!("{USAGE}");
            Ok(())
        }
        Err(error) => Err(error),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("intercom: {error}");
            ExitCode::FAILURE
        }
    }
}
