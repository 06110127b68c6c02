use super::*;

fn form(format: CopyFormat) -> CopyForm {
    let csv = format == CopyFormat::Csv;
    CopyForm {
        direction: CopyDirection::Out,
        format,
        delimiter: if csv { b',' } else { b'\t' },
        null: if csv { Vec::new() } else { b"\\N".to_vec() },
        header: false,
        quote: b'"',
        escape: b'"',
        columns: Vec::new(),
    }
}

/// Every row as its kind and its values, the data pushed in pieces of `piece` bytes.
fn rows(form: &CopyForm, data: &[u8], piece: usize) -> Vec<(RowKind, Vec<Option<Vec<u8>>>)> {
    let mut reader = CopyReader::new(form.clone(), 1 << 20);
    let mut row = Row::default();
    let mut rows = Vec::new();
    let mut note = |kind, row: &Row| {
        let values = row.fields.iter().map(|field| row.value(field).map(<[u8]>::to_vec)).collect();
        rows.push((kind, values));
    };
    for piece in data.chunks(piece) {
        reader.push(Bytes::copy_from_slice(piece));
        while let Some(kind) = reader.poll_row(&mut row).expect("well-formed") {
            note(kind, &row);
        }
    }
    if let Some(kind) = reader.finish(&mut row).expect("well-formed") {
        note(kind, &row);
    }
    assert!(reader.is_between_rows());
    rows
}

#[track_caller]
fn check(form: &CopyForm, data: &[u8], expect: &[&[Option<&[u8]>]]) {
    for piece in [1, 2, 3, 7, data.len()] {
        let found = rows(form, data, piece);
        let found: Vec<Vec<Option<&[u8]>>> = found
            .iter()
            .filter(|(kind, _)| *kind == RowKind::Values)
            .map(|(_, values)| values.iter().map(Option::as_deref).collect())
            .collect();
        assert_eq!(found, expect, "in pieces of {piece}");
    }
}

#[test]
fn text_rows_are_read_as_postgresql_reads_them() {
    check(
        &form(CopyFormat::Text),
        b"1\ta\\tb\\\\\t\\N\n2\t\\x41\\101\\q\t\n\\\n\tx\\\ty\tlast",
        &[
            &[Some(b"1"), Some(b"a\tb\\"), None],
            &[Some(b"2"), Some(b"AAq"), Some(b"")],
            &[Some(b"\n"), Some(b"x\ty"), Some(b"last")],
        ],
    );
    check(&form(CopyFormat::Text), b"a\r\n\n\\.\n", &[&[Some(b"a")], &[Some(b"")]]);
}

#[test]
fn csv_rows_are_read_as_postgresql_reads_them() {
    check(
        &form(CopyFormat::Csv),
        b"1,\"a,\"\"b\"\"\n\",\"\"\r\nx\"y,\"z,,\n",
        &[&[Some(b"1"), Some(b"a,\"b\"\n"), Some(b"")], &[Some(b"xy,z"), None, None]],
    );
    let other = CopyForm { delimiter: b';', quote: b'\'', escape: b'\\', ..form(CopyFormat::Csv) };
    check(
        &other,
        b"'a\\'b\\\\';'\\c'\n'x''y';2\n",
        &[&[Some(b"a'b\\"), Some(b"\\c")], &[Some(b"xy"), Some(b"2")]],
    );
}

#[test]
fn a_header_is_no_row_of_values() {
    let form = CopyForm { header: true, ..form(CopyFormat::Csv) };
    let found = rows(&form, b"id,name\n1,x\n", 4);
    assert_eq!(found[0].0, RowKind::Header);
    assert_eq!(found[0].1, [Some(b"id".to_vec()), Some(b"name".to_vec())]);
    assert_eq!(found[1].0, RowKind::Values);
}

#[test]
fn binary_rows_are_cut_by_their_counts() {
    let mut data = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0".to_vec();
    data.extend_from_slice(b"\0\x02\0\0\0\x01a\xff\xff\xff\xff\0\x00\xff\xff");
    check(&form(CopyFormat::Binary), &data, &[&[Some(b"a"), None]]);
    let mut reader = CopyReader::new(form(CopyFormat::Binary), 100);
    reader.push(Bytes::from_static(b"PGCOPX"));
    assert_eq!(reader.poll_row(&mut Row::default()), Err(CopyError::Malformed));
}

#[test]
fn a_row_without_an_end_is_bounded() {
    for format in [CopyFormat::Text, CopyFormat::Csv] {
        let mut reader = CopyReader::new(form(format), 10);
        reader.push(Bytes::from_static(b"\"0123456789"));
        assert_eq!(reader.poll_row(&mut Row::default()), Err(CopyError::RowTooLong));
    }
}

#[test]
fn a_field_is_replaced_so_that_it_is_read_as_the_new_value() {
    for (format, data) in
        [(CopyFormat::Text, &b"1\tx\\ty\t\\N\r\n"[..]), (CopyFormat::Csv, b"1,\"x\ty\",\r\n")]
    {
        let form = form(format);
        let mut reader = CopyReader::new(form.clone(), 100);
        let mut row = Row::default();
        reader.push(Bytes::copy_from_slice(data));
        reader.poll_row(&mut row).expect("well-formed");
        let new = b"a\tb,\"c\\\nd".to_vec();
        for value in [NewValue::Text(new.clone()), NewValue::Text(form.null.clone()), NewValue::Null] {
            let mut out = BytesMut::new();
            write_row(&row, &form, &[NewValue::AsItCame, value.clone(), NewValue::AsItCame], &mut out);
            let again = rows(&form, &out, out.len());
            let expect = match &value {
                NewValue::Text(text) => Some(text.clone()),
                _ => None,
            };
            assert_eq!(again, [(RowKind::Values, vec![Some(b"1".to_vec()), expect, None])]);
            assert!(out.ends_with(b"\r\n"));
        }
    }
}

proptest::proptest! {
    #[test]
    fn any_data_is_cut_without_loss_however_it_is_split(
        data in proptest::collection::vec(proptest::sample::select(&b"ab\\\"\n\r\t,.N0x"[..]), 0..60),
        piece in 1_usize..9,
        csv in proptest::bool::ANY,
    ) {
        let form = form(if csv { CopyFormat::Csv } else { CopyFormat::Text });
        let mut reader = CopyReader::new(form.clone(), 1 << 20);
        let mut row = Row::default();
        let mut joined = Vec::new();
        for piece in data.chunks(piece) {
            reader.push(Bytes::copy_from_slice(piece));
            while reader.poll_row(&mut row).expect("text is never malformed").is_some() {
                joined.extend_from_slice(&row.bytes);
            }
        }
        if reader.finish(&mut row).expect("text is never malformed").is_some() {
            joined.extend_from_slice(&row.bytes);
        }
        proptest::prop_assert_eq!(&joined, &data);
        proptest::prop_assert_eq!(rows(&form, &data, piece), rows(&form, &data, data.len().max(1)));
    }
}
