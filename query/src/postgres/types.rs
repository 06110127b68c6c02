use arrow::datatypes::{DataType, IntervalUnit, TimeUnit};

/// The types that values have on PostgreSQL's wire. Whatever the engine has besides is shown as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    Bool,
    Bytea,
    Int8,
    Int2,
    Int4,
    Text,
    Float4,
    Float8,
    Date,
    Time,
    Timestamp,
    Timestamptz,
    Interval,
    Numeric,
    TextArray,
    Int8Array,
}

/// Object id, name in `pg_type`, name in SQL, and bytes of a value (-1: it varies), as PostgreSQL has them.
const NAMES: [(Wire, u32, &str, &str, i16); 16] = [
    (Wire::Bool, 16, "bool", "boolean", 1),
    (Wire::Bytea, 17, "bytea", "bytea", -1),
    (Wire::Int8, 20, "int8", "bigint", 8),
    (Wire::Int2, 21, "int2", "smallint", 2),
    (Wire::Int4, 23, "int4", "integer", 4),
    (Wire::Text, 25, "text", "text", -1),
    (Wire::Float4, 700, "float4", "real", 4),
    (Wire::Float8, 701, "float8", "double precision", 8),
    (Wire::Date, 1082, "date", "date", 4),
    (Wire::Time, 1083, "time", "time without time zone", 8),
    (Wire::Timestamp, 1114, "timestamp", "timestamp without time zone", 8),
    (Wire::Timestamptz, 1184, "timestamptz", "timestamp with time zone", 8),
    (Wire::Interval, 1186, "interval", "interval", 16),
    (Wire::Numeric, 1700, "numeric", "numeric", -1),
    (Wire::TextArray, 1009, "_text", "text[]", -1),
    (Wire::Int8Array, 1016, "_int8", "bigint[]", -1),
];

impl Wire {
    pub(crate) const ALL: [Self; 16] = {
        let mut all = [Self::Bool; 16];
        let mut index = 0;
        while index < all.len() {
            all[index] = NAMES[index].0;
            index += 1;
        }
        all
    };

    /// How the engine's values of this type go out.
    pub(crate) fn of(data_type: &DataType) -> Self {
        match data_type {
            DataType::Boolean => Self::Bool,
            DataType::Binary
            | DataType::LargeBinary
            | DataType::BinaryView
            | DataType::FixedSizeBinary(_) => Self::Bytea,
            DataType::Int8 | DataType::UInt8 | DataType::Int16 => Self::Int2,
            DataType::UInt16 | DataType::Int32 => Self::Int4,
            DataType::UInt32 | DataType::Int64 => Self::Int8,
            DataType::UInt64
            | DataType::Decimal32(..)
            | DataType::Decimal64(..)
            | DataType::Decimal128(..)
            | DataType::Decimal256(..) => Self::Numeric,
            DataType::Float16 | DataType::Float32 => Self::Float4,
            DataType::Float64 => Self::Float8,
            DataType::Date32 => Self::Date,
            DataType::Time32(_) | DataType::Time64(_) => Self::Time,
            DataType::Date64 | DataType::Timestamp(_, None) => Self::Timestamp,
            DataType::Timestamp(_, Some(_)) => Self::Timestamptz,
            DataType::Interval(_) | DataType::Duration(_) => Self::Interval,
            DataType::List(field) | DataType::LargeList(field) => match Self::of(field.data_type()) {
                Self::Int2 | Self::Int4 | Self::Int8 => Self::Int8Array,
                Self::Text if is_text(field.data_type()) => Self::TextArray,
                _ => Self::Text,
            },
            DataType::Dictionary(_, values) => Self::of(values),
            _ => Self::Text,
        }
    }

    /// The type that the engine's values are brought to before they go out.
    pub(crate) fn data_type(self) -> DataType {
        match self {
            Self::Bool => DataType::Boolean,
            Self::Bytea => DataType::Binary,
            Self::Int8 => DataType::Int64,
            Self::Int2 => DataType::Int16,
            Self::Int4 => DataType::Int32,
            Self::Text | Self::Numeric => DataType::Utf8,
            Self::Float4 => DataType::Float32,
            Self::Float8 => DataType::Float64,
            Self::Date => DataType::Date32,
            Self::Time => DataType::Time64(TimeUnit::Microsecond),
            Self::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            Self::Timestamptz => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Self::Interval => DataType::Interval(IntervalUnit::MonthDayNano),
            Self::TextArray => DataType::new_list(DataType::Utf8, true),
            Self::Int8Array => DataType::new_list(DataType::Int64, true),
        }
    }

    /// The type that a parameter of this type is planned with.
    pub(crate) fn parameter_type(self) -> DataType {
        match self {
            Self::Numeric => DataType::Decimal128(38, 10),
            other => other.data_type(),
        }
    }

    /// The type of this object id, the ids of kin included: `varchar` is text.
    pub(crate) fn of_oid(oid: u32) -> Option<Self> {
        let known = NAMES.iter().find(|(_, known, ..)| *known == oid).map(|(wire, ..)| *wire);
        known.or(match oid {
            // char, name, json, unknown, bpchar, varchar, uuid, jsonb
            18 | 19 | 114 | 705 | 1042 | 1043 | 2950 | 3802 => Some(Self::Text),
            // oid
            26 => Some(Self::Int8),
            _ => None,
        })
    }

    pub(crate) fn oid(self) -> u32 {
        self.named().1
    }

    pub(crate) fn type_name(self) -> &'static str {
        self.named().2
    }

    pub(crate) fn sql_name(self) -> &'static str {
        self.named().3
    }

    pub(crate) fn size(self) -> i16 {
        self.named().4
    }

    /// What an array has in it.
    pub(crate) fn element(self) -> Option<Self> {
        match self {
            Self::TextArray => Some(Self::Text),
            Self::Int8Array => Some(Self::Int8),
            _ => None,
        }
    }

    fn named(self) -> &'static (Self, u32, &'static str, &'static str, i16) {
        NAMES.iter().find(|(wire, ..)| *wire == self).expect("every type has its names")
    }
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_is_found_by_its_object_id() {
        for wire in Wire::ALL {
            assert_eq!(Wire::of_oid(wire.oid()), Some(wire));
            if wire != Wire::Numeric {
                assert_eq!(Wire::of(&wire.data_type()), wire, "what it is brought to is of the same type");
            }
        }
        assert_eq!(Wire::of_oid(1043), Some(Wire::Text));
        assert_eq!(Wire::of_oid(600), None, "a point");
    }
}
