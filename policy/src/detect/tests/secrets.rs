use super::*;

const CHARS: &str = "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8s9T0uVwXyZ";
/// The example of AWS's own documentation.
const AWS_SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

/// Keys of every form, put together here so that no scanner of repositories takes them for real ones.
fn keys() -> Vec<String> {
    let key = |prefix: &str, len: usize| format!("{prefix}{}", &CHARS[..len]);
    vec![
        format!("AKIA{}", "IOSFODNN7EXAMPLE"),
        format!("ASIA{}", "IOSFODNN7EXAMPLE"),
        key("ghp_", 36),
        key("gho_", 36),
        key("ghu_", 36),
        key("ghs_", 36),
        key("ghr_", 36),
        format!("github_pat_{}_{CHARS}", &CHARS[..22]),
        key("glpat-", 20),
        key("xoxb-123456789012-", 24),
        key("xoxp-1-", 24),
        key("xapp-1-A012-", 24),
        format!("hooks.slack.com/services/T00000000/B00000000/{}", &CHARS[..24]),
        key("AIza", 35),
        key("GOCSPX-", 28),
        key("ya29.a0", 40),
        key("sk_live_", 24),
        key("sk_test_", 24),
        key("rk_live_", 24),
        key("whsec_", 32),
        key("npm_", 36),
        format!("pypi-AgEIcHlwaS5vcmc{CHARS}"),
        key("sk-", 40),
        format!("sk-proj-{CHARS}_-{CHARS}"),
        format!("sk-ant-api03-{CHARS}-{CHARS}"),
        key("rt_0a1b2c3d_", 43),
    ]
}

#[test]
fn keys_of_every_issuer_are_found_whole() {
    for key in keys() {
        check(Detector::ApiKey, &key, &[&key]);
        for (before, after) in [
            ("key=", "&x"),
            ("\"", "\""),
            ("Bearer ", "\n"),
            ("x\\n", "\\n"),
            ("%20", "%20"),
            ("(", ")"),
            ("_", " "),
        ] {
            check(Detector::ApiKey, &format!("{before}{key}{after}"), &[&key]);
        }
        assert_eq!(canonical(Detector::ApiKey, key.as_bytes()), key.as_bytes());
        let out =
            String::from_utf8(masked(Detector::ApiKey, MaskAction::Partial, key.as_bytes())).expect("UTF-8");
        let prefix = out.strip_suffix("***").expect("the rest is hidden");
        assert!(key.starts_with(prefix) && prefix.len() <= 16, "{out}");
        check(Detector::ApiKey, &out, &[]);
    }
}

#[test]
fn a_secret_access_key_is_found_by_what_stands_before_it() {
    for before in
        ["aws_secret_access_key = ", "AWS_SECRET_ACCESS_KEY=", "\"SecretAccessKey\": \"", "secret: "]
    {
        check(Detector::ApiKey, &format!("{before}{AWS_SECRET}"), &[AWS_SECRET]);
    }
    let id = format!("AKIA{}", "IOSFODNN7EXAMPLE");
    check(Detector::ApiKey, &format!("{id},{AWS_SECRET}"), &[&id, AWS_SECRET]);
    check(Detector::ApiKey, AWS_SECRET, &[]);
    check(Detector::ApiKey, &format!("secret {AWS_SECRET}x"), &[]);
    check(Detector::ApiKey, "secret da39a3ee5e6b4b0d3255bfef95601890afd80709", &[]);
    assert_eq!(replaced(Detector::ApiKey, AWS_SECRET), "***");
}

fn replaced(detector: Detector, matched: &str) -> String {
    let mut out = Vec::new();
    replacement(detector, MaskAction::Partial, matched.as_bytes(), &mut out);
    String::from_utf8(out).expect("UTF-8")
}

#[test]
fn names_that_only_begin_like_keys_are_left_alone() {
    for text in [
        "AKIA",
        "AKIAIOSFODNN7EXAMPL",
        "xAKIAIOSFODNN7EXAMPLE",
        "ghp_short",
        "task-management-for-everybody-9",
        "sk-",
        "sk-loading-indicator-of-the-page",
        "port_number",
        "rt_total_count_of_all_the_items_in_it",
        "xoxo-kisses-and-hugs",
        "npm_config_registry",
        "pypi-mirror",
        "pk_live_abcdefghijklmnop",
        "the secret of success",
        "",
    ] {
        check(Detector::ApiKey, text, &[]);
    }
}

/// The example of RFC 7515, appendix A.1.
const JWS: &str = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.\
    eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.\
    dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
/// RFC 7516, appendix A.1, with shorter parts.
const JWE: &str = "eyJhbGciOiJSU0EtT0FFUCIsImVuYyI6IkEyNTZHQ00ifQ.OKOawDo13gRp2ojaHV7LFpZcgV7T6DVZ.48V1_ALb6US04U3b.\
    5eym8TW_c8SuK0ltJ3rpYIzOeDQz7TALvtu6UG9oMo4vpzs9tX_EFShS8iB7j6ji.XFBoMYUZodetZdvTiFvSkQ";

#[test]
fn tokens_of_three_and_five_parts_are_found() {
    // { "alg": "none" } with a line break after the bracket.
    let spaced = "ewogImFsZyI6Im5vbmUifQ.e30.";
    let detached = "eyJhbGciOiJIUzI1NiJ9..dBjftJeZ4CVP";
    for token in [JWS, JWE, spaced, detached] {
        check(Detector::Jwt, token, &[token]);
        for (before, after) in
            [("Bearer ", "\r\n"), ("\"", "\""), ("jwt=", "&x=y"), ("\\n", "\\n"), ("%20", " "), ("t_", ",")]
        {
            check(Detector::Jwt, &format!("{before}{token}{after}"), &[token]);
        }
    }
    assert_eq!(replaced(Detector::Jwt, JWS), "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.***");
    check(Detector::Jwt, &replaced(Detector::Jwt, JWS), &[]);
}

#[test]
fn what_has_no_header_of_a_token_is_left_alone() {
    for text in [
        "eyJ.eyJ.x",
        "eyJhbGciOiJIUzI1NiJ9",
        "eyJhbGciOiJIUzI1NiJ9.e30",
        "eyJ0eXAiOiJKV1QifQ.e30.abc",
        "eyJhbGciOiJIUzI1NiJ9..",
        "xeyJhbGciOiJIUzI1NiJ9.e30.abc",
        "eyJhbGciOiJIUzI1Ni.e30.abc",
        "eyes.on.you",
    ] {
        check(Detector::Jwt, text, &[]);
    }
}

fn pem(label: &str, line_break: &str) -> String {
    let body = &CHARS[..40];
    format!("-----BEGIN {label}-----{line_break}{body}{line_break}{body}{line_break}-----END {label}-----")
}

#[test]
fn blocks_of_private_keys_are_found_whole() {
    for label in [
        "PRIVATE KEY",
        "RSA PRIVATE KEY",
        "EC PRIVATE KEY",
        "ENCRYPTED PRIVATE KEY",
        "OPENSSH PRIVATE KEY",
        "PGP PRIVATE KEY BLOCK",
    ] {
        for line_break in ["\n", "\r\n", "\\n", " "] {
            let key = pem(label, line_break);
            check(Detector::PrivateKey, &key, &[&key]);
            check(Detector::PrivateKey, &format!("x{key}\ny"), &[&key]);
            check(Detector::PrivateKey, &format!("{{\"k\":\"{key}\"}}"), &[&key]);
            check(Detector::PrivateKey, &format!("{key}\n{key}"), &[&key, &key]);
            assert_eq!(replaced(Detector::PrivateKey, &key), "[private_key]");
        }
        assert_eq!(
            canonical(Detector::PrivateKey, pem(label, "\n").as_bytes()),
            canonical(Detector::PrivateKey, pem(label, "\\n").as_bytes())
        );
    }
    let url = pem("RSA PRIVATE KEY", "%0A").replace(' ', "+");
    check(Detector::PrivateKey, &url, &[&url]);
    let cut = "-----BEGIN RSA PRIVATE KEY-----\nMIIE";
    check(Detector::PrivateKey, &format!("a {cut}"), &[cut]);
    let putty = "PuTTY-User-Key-File-3: ssh-ed25519\nPrivate-Lines: 1\nAAAA\nPrivate-MAC: 0a1b2c";
    check(Detector::PrivateKey, &format!("{putty}\nx"), &[putty]);
    let age = format!("AGE-SECRET-KEY-1{}", "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L".repeat(2));
    check(Detector::PrivateKey, &format!("# key\n{age}\n"), &[&age]);
}

#[test]
fn words_of_a_block_without_one_are_left_alone() {
    for text in [
        "PRIVATE KEY",
        "the PRIVATE KEY of",
        "-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----",
        "BEGIN PRIVATE KEY",
        "-----BEGIN CERTIFICATE-----",
        "AGE-SECRET-KEY-1",
        "PRIVATE",
        "-----END PRIVATE KEY-----",
    ] {
        check(Detector::PrivateKey, text, &[]);
    }
}
