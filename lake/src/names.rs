//! How the lake spells the closed sets of the schema: the protobuf name without its prefix, in lower case.
//!
//! `STREAM_KIND_SESSION` is `session`. What is unspecified, or a number this version does not know, is null.

use retrace_proto::wire::{Durability, PrincipalKind, Protocol, RetentionClass, StreamKind};

/// A closed set with its two protobuf spellings.
pub(crate) trait Named: TryFrom<i32> + Into<i32> {
    /// What each protobuf name begins with.
    const PREFIX: &'static str;
    /// The protobuf name.
    fn wire_name(&self) -> &'static str;
    /// The reverse of [`Named::wire_name`].
    fn from_wire_name(name: &str) -> Option<Self>;
}

macro_rules! named {
    ($($set:ty => $prefix:literal),* $(,)?) => {$(
        impl Named for $set {
            const PREFIX: &'static str = $prefix;
            fn wire_name(&self) -> &'static str {
                self.as_str_name()
            }
            fn from_wire_name(name: &str) -> Option<Self> {
                Self::from_str_name(name)
            }
        }
    )*};
}

named! {
    StreamKind => "STREAM_KIND_",
    Protocol => "PROTOCOL_",
    Durability => "DURABILITY_",
    RetentionClass => "RETENTION_CLASS_",
    PrincipalKind => "PRINCIPAL_KIND_",
    retrace_proto::wire::session_closed::Reason => "REASON_",
    retrace_proto::wire::login_refused::Reason => "REASON_",
    retrace_proto::wire::command_received::Kind => "KIND_",
    retrace_proto::wire::decision::Effect => "EFFECT_",
    retrace_proto::wire::command_refused::Reason => "REASON_",
    retrace_proto::wire::command_refused::Forwarded => "FORWARDED_",
    retrace_proto::wire::command_completed::Status => "STATUS_",
    retrace_proto::wire::review_decided::Verdict => "VERDICT_",
    retrace_proto::wire::review_applied::Outcome => "OUTCOME_",
    retrace_proto::wire::evidence_read::Kind => "KIND_",
    retrace_proto::wire::evidence_read_completed::Status => "STATUS_",
}

/// The column's spelling of a wire number.
pub(crate) fn name_of<T: Named>(number: i32) -> Option<String> {
    if number == 0 {
        return None;
    }
    let value = T::try_from(number).ok()?;
    Some(value.wire_name().strip_prefix(T::PREFIX)?.to_ascii_lowercase())
}

/// The wire number of a column's spelling. `None` for a word that is not of the set.
pub(crate) fn number_of<T: Named>(name: Option<&str>) -> Option<i32> {
    match name {
        None => Some(0),
        Some(name) => {
            let wire = format!("{}{}", T::PREFIX, name.to_ascii_uppercase());
            T::from_wire_name(&wire).map(Into::into)
        }
    }
}
