//! The `retrace` binary: commands, configuration, composition.
//!
//! The way through it, in reading order: `args` says what can be asked, `config` what a configuration is, `services` puts
//! the parts of a process together and `health` tells how it does; `evidence` is the way of every reading command to the records, in another process or in this one;
//! each other command has its file.

mod args;

mod config;

mod services;

mod health;

mod evidence;

mod check;
mod control_keys;
mod heads_key;
mod hold;
mod init;
mod kill;
mod replay;
mod reviews;
mod rows;
mod sessions;
mod shell;
mod sql;
mod tail;
mod token;

mod clock;
mod log_lines;
mod output;
mod storage;

use std::process::ExitCode;

use args::{Cli, Command};
use clap::Parser;
use config::Config;
use services::{Role, serve};
use tikv_jemallocator::Jemalloc;

/// glibc's allocator keeps, for each of its arenas, as much as the largest merge of data files ever took there. This one gives
/// back to the system what has not been used for ten seconds.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    rustls::crypto::ring::default_provider()
        .install_default()
        .expect("this is the first call of the process, so no provider is installed yet");
    let runtime =
        match tokio::runtime::Builder::new_multi_thread().thread_name("service").enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                output::error(&anyhow::Error::new(error).context("cannot start threads"));
                return ExitCode::FAILURE;
            }
        };
    match runtime.block_on(run(cli)) {
        Ok(code) => code,
        Err(error) if output::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            output::error(&error);
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let serves = matches!(cli.command, Command::Up | Command::Proxy | Command::Ingest | Command::Query);
    log_lines::start(if serves { "info" } else { "warn" }, cli.place.log_format);
    let load = || Config::load(&cli.place.config);
    match cli.command {
        Command::Init { dir } => init::init(&dir)?,
        Command::Up => Box::pin(serve(load()?, &Role::ALL)).await?,
        Command::Proxy => Box::pin(serve(load()?, &[Role::Proxy])).await?,
        Command::Ingest => Box::pin(serve(load()?, &[Role::Ingest])).await?,
        Command::Query => Box::pin(serve(load()?, &[Role::Query])).await?,
        Command::Check { schema: true } => check::schema()?,
        Command::Check { schema: false } => check::check(&load()?)?,
        Command::Token(command) => token::token(&load()?, command)?,
        Command::HeadsKey { create } => heads_key::heads_key(&load()?, create)?,
        Command::ControlKeys { create } => control_keys::control_keys(&load()?, create)?,
        Command::ReviewKey { file, create } => reviews::key(&file, create)?,
        Command::Kill(kill) => kill::kill(&load()?, kill).await?,
        Command::Reviews(asked) => reviews::reviews(&load()?, asked).await?,
        Command::Approve(asked) => reviews::decide(&load()?, asked, true).await?,
        Command::Reject(asked) => reviews::decide(&load()?, asked, false).await?,
        Command::Withdraw(asked) => reviews::withdraw(&load()?, asked).await?,
        Command::Hold(hold) => hold::hold(&load()?, hold).await?,
        Command::Sessions { reach, limit } => sessions::sessions(&load()?, &reach, limit).await?,
        Command::Sql { reach, format, statement } => sql::sql(&load()?, &reach, format, statement).await?,
        Command::Tail { reach, session } => tail::tail(&load()?, &reach, session).await?,
        Command::Replay(replay) => return replay::replay(&load()?, replay).await,
        Command::Version => {
            let mut out = output::Output::stdout();
            out.line(format_args!("retrace {}", env!("CARGO_PKG_VERSION")))?;
            out.flush()?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
