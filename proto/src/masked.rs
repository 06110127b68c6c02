/// A value that the masking code has seen, with everything replaced that must not be kept.
///
/// This is what stands between traffic and evidence: an [`Event`](crate::Event) takes text of the traffic only in this
/// form, and the one constructor, [`Masked::by_masking`], is forbidden by lint outside the masking module. Code that
/// would record a raw value does not compile; code that would lie about it does not pass `make lint`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Masked<T>(T);

impl<T> Masked<T> {
    /// Vouches that `value` went through masking. For the masking module alone.
    pub fn by_masking(value: T) -> Self {
        Self(value)
    }

    /// The value, for reading.
    pub fn get(&self) -> &T {
        &self.0
    }

    /// The value, which is no longer vouched for.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> FromIterator<Masked<T>> for Masked<Vec<T>> {
    /// Many masked values are a masked list.
    fn from_iter<I: IntoIterator<Item = Masked<T>>>(values: I) -> Self {
        Self(values.into_iter().map(|value| value.0).collect())
    }
}
