/// How the values of a type are laid out and printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Bool,
    Bytea,
    /// The type `"char"`, one byte.
    Char,
    Int2,
    Int4,
    Int8,
    Unsigned4,
    Unsigned8,
    Float4,
    Float8,
    Numeric,
    Text,
    Json,
    /// A version byte, then text: `jsonb`.
    Jsonb,
    Date,
    Time,
    TimeTz,
    Timestamp,
    TimestampTz,
    Interval,
    Uuid,
    /// `inet` and `cidr`, which say which they are.
    Inet,
    MacAddr,
    MacAddr8,
    /// `bit` and `varbit`.
    Bits,
    Tid,
    Lsn,
    Void,
    /// An array of any of these; it names its elements' type itself.
    Array,
}

impl Kind {
    /// The layout of a built-in type (`pg_type.dat`, where these numbers never change).
    pub(super) fn of(type_oid: u32) -> Option<Self> {
        Some(match type_oid {
            16 => Self::Bool,
            17 => Self::Bytea,
            18 => Self::Char,
            20 => Self::Int8,
            21 => Self::Int2,
            23 => Self::Int4,
            // name, text, xml, unknown, bpchar, varchar, refcursor, cstring
            19 | 25 | 142 | 705 | 1042 | 1043 | 1790 | 2275 => Self::Text,
            // oid, xid, cid
            26 | 28 | 29 => Self::Unsigned4,
            27 => Self::Tid,
            114 => Self::Json,
            650 | 869 => Self::Inet,
            700 => Self::Float4,
            701 => Self::Float8,
            774 => Self::MacAddr8,
            829 => Self::MacAddr,
            1082 => Self::Date,
            1083 => Self::Time,
            1114 => Self::Timestamp,
            1184 => Self::TimestampTz,
            1186 => Self::Interval,
            1266 => Self::TimeTz,
            1560 | 1562 => Self::Bits,
            1700 => Self::Numeric,
            2278 => Self::Void,
            2950 => Self::Uuid,
            3220 => Self::Lsn,
            3802 => Self::Jsonb,
            // xid8
            5069 => Self::Unsigned8,
            143
            | 199
            | 271
            | 651
            | 775
            | 1000..=1003
            | 1005
            | 1007
            | 1009..=1012
            | 1014..=1016
            | 1021
            | 1022
            | 1028
            | 1040
            | 1041
            | 1115
            | 1182
            | 1183
            | 1185
            | 1187
            | 1231
            | 1263
            | 1270
            | 1561
            | 1563
            | 2201
            | 2951
            | 3221
            | 3807 => Self::Array,
            _ => return None,
        })
    }
}
