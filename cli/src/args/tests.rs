use clap::CommandFactory;
use clap::error::ErrorKind;

use super::*;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(std::iter::once("retrace").chain(line.split_whitespace()))
}

#[test]
fn the_commands_are_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn every_documented_line_parses() {
    let lines = [
        "init gate",
        "up --config gate/retrace.toml",
        "--config gate/retrace.toml up",
        "proxy --log-format json",
        "check",
        "token create dev --ttl 30d",
        "token list",
        "token revoke 0a1b2c3d",
        "sessions --limit 10",
        "sql --format jsonl -",
        "sql --format csv SELECT",
        "sql",
        "sql --format csv",
        "tail",
        "tail --session last",
        "replay last --speed 4",
        "replay 0197a3c2 --instant --format json",
        "control-keys",
        "control-keys --create",
        "kill 0197a3c2 --reason incident",
        "kill last",
        "kill --token 0a1b2c3d",
        "reviews",
        "reviews 0197a3c2",
        "reviews --all --format json",
        "approve 0197a3c2 --reason agreed",
        "reject 0197a3c2 --reason dangerous",
        "withdraw 0197a3c2",
        "review-key my.key --create",
        "approve 0197a3c2 --key my.key",
        "hold set --principal jo --reason case",
        "hold set --session last",
        "hold set --target shop",
        "hold lift 0197a3c2-5b1e-7d11-8f3a-2c4d5e6f7a8b",
        "hold list --all --format json",
        "version",
    ];
    for line in lines {
        parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
    }
}

#[test]
fn what_is_wrong_is_a_usage_error() {
    let lines = [
        ("", ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand),
        ("replay", ErrorKind::MissingRequiredArgument),
        ("replay last --speed 0", ErrorKind::ValueValidation),
        ("replay last --speed nan", ErrorKind::ValueValidation),
        ("replay last --speed 2 --instant", ErrorKind::ArgumentConflict),
        ("sql --format xml SELECT", ErrorKind::InvalidValue),
        ("sessions --limit 0", ErrorKind::ValueValidation),
        ("token create dev --ttl soon", ErrorKind::ValueValidation),
        ("kill", ErrorKind::MissingRequiredArgument),
        ("kill last --token 0a1b2c3d", ErrorKind::ArgumentConflict),
        ("hold set", ErrorKind::MissingRequiredArgument),
        ("hold set --target shop --principal jo", ErrorKind::ArgumentConflict),
        ("frobnicate", ErrorKind::InvalidSubcommand),
    ];
    for (line, kind) in lines {
        let error = parse(line).expect_err(line);
        assert_eq!(error.kind(), kind, "{line}");
        assert_eq!(error.exit_code(), 2, "{line}");
    }
}

#[test]
fn what_the_service_would_not_take_of_an_order_is_a_usage_error() {
    let (name, reason) = ("x".repeat(HOLD_NAME_BYTES_MAX), "x".repeat(ORDER_REASON_BYTES_MAX));
    for order in ["hold set --principal", "hold set --target"] {
        parse(&format!("{order} {name} --reason {reason}")).unwrap();
        parse(&format!("{order} {name}x")).unwrap_err();
        parse(&format!("{order}=")).unwrap_err();
    }
    let hold_id = "0197a3c2-5b1e-7d11-8f3a-2c4d5e6f7a8b";
    for order in ["hold set --session last", &format!("hold lift {hold_id}"), "kill last"] {
        parse(&format!("{order} --reason {reason}")).unwrap();
        let error = parse(&format!("{order} --reason {reason}x")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ValueValidation, "{order}");
    }
}

#[test]
fn every_command_has_help_with_an_example() {
    for command in Cli::command().get_subcommands() {
        let name = command.get_name();
        if !["version", "token", "hold"].contains(&name) {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Example"), "{name}");
        }
    }
}
