//! Amounts of money: whole millionths of a US dollar. No floating point number is part of any sum.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// An amount of US dollars in millionths; plans and stored files write it as a decimal text: `"1.00"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Money(pub u64);

/// How many millionths a dollar has.
const DOLLAR: u64 = 1_000_000;

impl Money {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// The sum; one that is too large stays at the largest amount.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// How many decimals it has, at least 2 and at most 6.
    #[must_use]
    pub fn decimals(self) -> usize {
        let part = self.0 % DOLLAR;
        (2..6).find(|places| part.is_multiple_of(10_u64.pow(6 - *places as u32))).unwrap_or(6)
    }
}

impl FromStr for Money {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let bad = |why: &str| {
            format!(
                "bad amount {text:?}: {why}; write US dollars as a decimal, for example \"1.50\""
            )
        };
        let trimmed = text.trim();
        let number = trimmed.strip_prefix('$').unwrap_or(trimmed);
        if number.starts_with('-') {
            return Err(bad("it is below zero"));
        }
        let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
        let is_number =
            |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        if !is_number(whole) || !is_number(part) {
            return Err(bad("it is no decimal number"));
        }
        let part = part.trim_end_matches('0');
        if part.len() > 6 {
            return Err(bad("it has more than six decimals"));
        }
        let micros = format!("{part:0<6}").parse().map_err(|_| bad("it is no decimal number"))?;
        whole
            .parse::<u64>()
            .ok()
            .and_then(|whole| whole.checked_mul(DOLLAR)?.checked_add(micros))
            .map(Self)
            .ok_or_else(|| bad("it is too large"))
    }
}

/// With a `$`: all of its decimals, at least two, or as many as are asked for, rounded half up: `$1.00`,
/// `$0.01071`, and with `{:.2}` `$0.01`.
impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad_integral(true, "", &format!("${}", digits(*self, f.precision())))
    }
}

fn digits(amount: Money, places: Option<usize>) -> String {
    let places = places.unwrap_or_else(|| amount.decimals()).min(6);
    let unit = 10_u64.pow(6 - places as u32);
    let rounded = amount.0 / unit + u64::from(amount.0 % unit >= unit.div_ceil(2) && unit > 1);
    let per_dollar = DOLLAR / unit;
    match places {
        0 => rounded.to_string(),
        _ => format!("{}.{:0places$}", rounded / per_dollar, rounded % per_dollar),
    }
}

impl Serialize for Money {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&digits(*self, None))
    }
}

impl<'de> Deserialize<'de> for Money {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Money;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an amount of US dollars such as \"1.50\"")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Money, E> {
                text.parse().map_err(E::custom)
            }
            fn visit_u64<E: de::Error>(self, dollars: u64) -> Result<Money, E> {
                self.visit_str(&dollars.to_string())
            }
            fn visit_i64<E: de::Error>(self, dollars: i64) -> Result<Money, E> {
                self.visit_str(&dollars.to_string())
            }
            // What TOML and JSON call a number was written as a decimal, and the shortest text that gives
            // this number is that decimal.
            fn visit_f64<E: de::Error>(self, dollars: f64) -> Result<Money, E> {
                self.visit_str(&dollars.to_string())
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Money {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Money".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "an amount of US dollars with at most six decimals: \"1.50\"",
            "oneOf": [
                { "type": "string", "pattern": "^\\$?[0-9]+(\\.[0-9]+)?$" },
                { "type": "number", "minimum": 0 },
            ],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_and_written_to_the_last_digit() {
        for (text, micros, shown) in [
            ("1.00", 1_000_000, "$1.00"),
            ("$0.3", 300_000, "$0.30"),
            (" 12 ", 12_000_000, "$12.00"),
            ("0.01071", 10_710, "$0.01071"),
            ("0.000001", 1, "$0.000001"),
            ("2.500000000", 2_500_000, "$2.50"),
            ("18446744073709.551615", u64::MAX, "$18446744073709.551615"),
        ] {
            let amount: Money = text.parse().unwrap();
            assert_eq!((amount.0, amount.to_string()), (micros, shown.to_owned()), "{text}");
            let written = serde_json::to_string(&amount).unwrap();
            assert_eq!(written, format!("{:?}", &shown[1..]));
            assert_eq!(serde_json::from_str::<Money>(&written).unwrap(), amount);
        }
        for bad in ["", ".", "1.", ".5", "-1", "1e3", "1,5", "one", "0.0000001", "18446744073710"] {
            let error = bad.parse::<Money>().unwrap_err();
            assert!(error.contains("; write US dollars as a decimal"), "{error}");
        }
    }

    #[test]
    fn a_number_is_the_decimal_that_was_written() {
        for (json, shown) in [("0.1", "$0.10"), ("1.1", "$1.10"), ("3", "$3.00"), ("0.29", "$0.29")]
        {
            assert_eq!(serde_json::from_str::<Money>(json).unwrap().to_string(), shown);
        }
        assert!(
            serde_json::from_str::<Money>("-1").unwrap_err().to_string().contains("below zero")
        );
        assert!(serde_json::from_str::<Money>("true").is_err());
    }

    #[test]
    fn fewer_decimals_are_rounded_half_up_and_columns_can_be_aligned() {
        for (micros, cents) in
            [(4_999, "$0.00"), (5_000, "$0.01"), (10_710, "$0.01"), (999_995_000, "$1000.00")]
        {
            assert_eq!(format!("{:.2}", Money(micros)), cents);
        }
        assert_eq!(format!("{:.6}", Money(1)), "$0.000001");
        assert_eq!(format!("{:.0}", Money(1_500_000)), "$2");
        assert_eq!(format!("{:>8}", Money(300_000)), "   $0.30");
    }
}
