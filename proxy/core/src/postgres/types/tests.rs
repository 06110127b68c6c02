use proptest::prelude::*;

use super::*;

const INT4: u32 = 23;
const INT4_ARRAY: u32 = 1007;
const TEXT: u32 = 25;
const NUMERIC: u32 = 1700;

fn printed(type_oid: u32, value: &[u8]) -> Result<String, NotPrintable> {
    let mut out = Vec::new();
    print_binary(type_oid, value, &Settings::default(), &mut out)
        .map(|()| String::from_utf8(out).expect("printed as UTF-8"))
}

/// An array header: dimensions of (count, first subscript), then the elements as they are.
fn array(element_oid: u32, dimensions: &[(i32, i32)], elements: &[u8]) -> Vec<u8> {
    let mut value = Vec::new();
    value.extend(i32::try_from(dimensions.len()).expect("few").to_be_bytes());
    value.extend(0_i32.to_be_bytes());
    value.extend(element_oid.to_be_bytes());
    for (count, first) in dimensions {
        value.extend(count.to_be_bytes());
        value.extend(first.to_be_bytes());
    }
    value.extend(elements);
    value
}

#[test]
fn a_mask_can_stand_in_text_and_json_alone() {
    for text in [19, 25, 142, 705, 1042, 1043, 1790, 2275] {
        assert_eq!(class(text), TypeClass::Text);
    }
    assert_eq!((class(114), class(3802)), (TypeClass::Json, TypeClass::Json));
    for other in [16, 17, 18, 20, 600, 701, 790, 1009, 1184, 1700, 2950, 3614] {
        assert_eq!(class(other), TypeClass::Other, "{other}");
    }
    for unknown in [0, 16_384, 99_999, u32::MAX] {
        assert_eq!(class(unknown), TypeClass::Unknown);
    }
}

#[test]
fn a_type_that_is_not_in_the_table_is_not_printed() {
    for unknown in [0, 600, 790, 3614, 16_384] {
        assert_eq!(printed(unknown, b"\0\0\0\x01"), Err(NotPrintable::Unknown));
    }
    assert_eq!(printed(INT4_ARRAY, &array(16_384, &[], &[])), Err(NotPrintable::Unknown));
}

#[test]
fn a_value_of_the_wrong_length_is_malformed_and_leaves_nothing_behind() {
    let oids: Vec<u32> = (0..6_000)
        .filter(|oid| Kind::of(*oid).is_some_and(|kind| !matches!(kind, Kind::Text | Kind::Json)))
        .collect();
    assert!(oids.len() > 50);
    for oid in oids {
        let mut out = b"kept".to_vec();
        // No fixed layout has 61 bytes, and what counts its own parts finds too few or too many.
        let result = print_binary(oid, &[0x01; 61], &Settings::default(), &mut out);
        if !matches!(Kind::of(oid), Some(Kind::Bytea | Kind::Jsonb)) {
            assert_ne!(result, Ok(()), "{oid}");
            assert_eq!(out, b"kept");
        }
    }
    assert_eq!(printed(INT4, &[0, 0, 0]), Err(NotPrintable::Malformed));
    assert_eq!(printed(3802, b"\x02{}"), Err(NotPrintable::Malformed));
    assert_eq!(printed(3802, b""), Err(NotPrintable::Malformed));
}

#[test]
fn an_array_that_lies_about_its_size_is_malformed() {
    let one = [0, 0, 0, 4, 0, 0, 0, 9];
    assert_eq!(printed(INT4_ARRAY, &array(INT4, &[(1, 1)], &one)), Ok("{9}".to_owned()));
    for dimensions in [
        &[(2, 1)][..],
        &[(-1, 1)],
        &[(i32::MAX, 1)],
        &[(i32::MAX, 1), (i32::MAX, 1), (i32::MAX, 1)],
        &[(1, 1), (1, 1), (1, 1), (1, 1), (1, 1), (1, 1), (1, 1)],
        &[(0, 1)],
        &[],
    ] {
        assert_eq!(printed(INT4_ARRAY, &array(INT4, dimensions, &one)), Err(NotPrintable::Malformed));
    }
    assert_eq!(printed(INT4_ARRAY, &array(INT4, &[(1, 1)], &[0, 0, 0, 5, 0])), Err(NotPrintable::Malformed));
    assert_eq!(
        printed(INT4_ARRAY, &array(INT4, &[(1, 1)], &(-2_i32).to_be_bytes())),
        Err(NotPrintable::Malformed)
    );
    assert_eq!(printed(INT4_ARRAY, &array(INT4_ARRAY, &[], &[])), Err(NotPrintable::Malformed));
    let last = array(INT4, &[(1, i32::MAX), (1, i32::MIN)], &one);
    assert_eq!(
        printed(INT4_ARRAY, &last),
        Ok("[2147483647:2147483647][-2147483648:-2147483648]={{9}}".to_owned())
    );
}

#[test]
fn numbers_and_times_out_of_their_range_are_malformed() {
    let numeric = |sign: u16, scale: u16, digit: u16| {
        let mut value = Vec::new();
        for part in [1, 0, sign, scale, digit] {
            value.extend(part.to_be_bytes());
        }
        printed(NUMERIC, &value)
    };
    assert_eq!(numeric(0, 2, 12), Ok("12.00".to_owned()));
    assert_eq!(numeric(1, 0, 12), Err(NotPrintable::Malformed));
    assert_eq!(numeric(0, 0x4000, 12), Err(NotPrintable::Malformed));
    assert_eq!(numeric(0, 0, 10_000), Err(NotPrintable::Malformed));
    assert_eq!(printed(1083, &86_400_000_001_i64.to_be_bytes()), Err(NotPrintable::Malformed));
    assert_eq!(printed(1083, &(-1_i64).to_be_bytes()), Err(NotPrintable::Malformed));
    for us in [i64::MIN + 1, i64::MAX - 1] {
        assert_eq!(printed(1114, &us.to_be_bytes()), Err(NotPrintable::Malformed));
        assert_eq!(printed(1184, &us.to_be_bytes()), Err(NotPrintable::Malformed));
    }
    for days in [i32::MIN + 1, i32::MAX - 1] {
        assert_eq!(printed(1082, &days.to_be_bytes()), Err(NotPrintable::Malformed));
    }
}

#[test]
fn text_is_passed_on_whatever_its_encoding() {
    let mut out = Vec::new();
    assert_eq!(print_binary(TEXT, b"caf\xe9", &Settings::default(), &mut out), Ok(()));
    assert_eq!(out, b"caf\xe9");
}

#[test]
fn a_setting_that_is_not_known_changes_nothing_and_an_unknown_zone_is_utc() {
    let mut settings = Settings::default();
    settings.apply("DateStyle", "German, DMY");
    settings.apply("IntervalStyle", "iso_8601");
    settings.apply("DateStyle", "Redwood, SHOW_TIME");
    settings.apply("IntervalStyle", "other");
    settings.apply("application_name", "ISO");
    assert_eq!(settings.date_style, DateStyle::German);
    assert_eq!(settings.date_order, DateOrder::DayFirst);
    assert_eq!(settings.interval_style, IntervalStyle::Iso8601);
    for zone in ["Europe/Berlin", "Nowhere/Else", "<>+99", "<x", "", "../etc/passwd", "<+1>-1:2:3:4"] {
        settings.apply("DateStyle", "ISO, MDY");
        settings.apply("TimeZone", zone);
        let mut out = Vec::new();
        assert_eq!(print_binary(1184, &0_i64.to_be_bytes(), &settings, &mut out), Ok(()));
        let expect = match zone {
            "Europe/Berlin" => "2000-01-01 01:00:00+01",
            "<+1>-1:2:3:4" => "2000-01-01 01:02:03+01:02:03",
            _ => "2000-01-01 00:00:00+00",
        };
        assert_eq!(String::from_utf8_lossy(&out), expect, "in {zone}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_printed_or_refused(
        oid in (0_u32..6_000).prop_filter("a known type", |oid| Kind::of(*oid).is_some()),
        value in prop::collection::vec(any::<u8>(), 0..64),
        zone in prop::sample::select(vec!["UTC", "America/New_York", "Asia/Kathmandu", "EST5EDT"]),
        date_style in prop::sample::select(vec!["ISO, MDY", "SQL, DMY", "Postgres, MDY", "German, DMY"]),
        interval_style in prop::sample::select(vec!["postgres", "postgres_verbose", "sql_standard", "iso_8601"]),
    ) {
        let mut settings = Settings::default();
        settings.apply("TimeZone", zone);
        settings.apply("DateStyle", date_style);
        settings.apply("IntervalStyle", interval_style);
        let mut out = b"kept".to_vec();
        let result = print_binary(oid, &value, &settings, &mut out);
        prop_assert!(out.starts_with(b"kept"));
        prop_assert!(result.is_ok() || out == b"kept");
    }

    #[test]
    fn any_array_of_scalars_is_printed_or_refused(
        element in (0_u32..6_000).prop_filter("a known type", |oid| Kind::of(*oid).is_some()),
        dimensions in prop::collection::vec((0_i32..4, any::<i32>()), 0..4),
        elements in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..16),
    ) {
        let mut bytes = Vec::new();
        for element in elements {
            bytes.extend(i32::try_from(element.len()).expect("short").to_be_bytes());
            bytes.extend(element);
        }
        let mut out = Vec::new();
        let result = print_binary(INT4_ARRAY, &array(element, &dimensions, &bytes), &Settings::default(), &mut out);
        prop_assert!(result.is_ok() || out.is_empty());
    }

    #[test]
    fn every_time_of_a_zone_is_printed(us in any::<i64>(), fold in 1_i64..1_000_000) {
        let mut settings = Settings::default();
        settings.apply("TimeZone", "Europe/London");
        let us = us / fold;
        let result = print_binary(1184, &us.to_be_bytes(), &settings, &mut Vec::new());
        prop_assert_eq!(result.is_ok(), (-211_813_488_000_000_000..9_223_371_331_200_000_000).contains(&us));
    }

    #[test]
    fn a_printed_float_reads_as_the_same_value(bits in any::<u64>()) {
        let value = f64::from_bits(bits);
        let text = printed(701, &value.to_be_bytes()).expect("every float prints");
        prop_assert!(value.is_nan() || text.parse() == Ok(value));
        #[expect(clippy::cast_possible_truncation, reason = "any 32 bits will do")]
        let small = f32::from_bits(bits as u32);
        let text = printed(700, &small.to_be_bytes()).expect("every float prints");
        prop_assert!(small.is_nan() || text.parse() == Ok(small));
    }
}
