//! The bounds and defaults of the numbers in a Channel's spec: for the schema and for the operator.

/// What a number may be, and what it is where the manifest has none.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub min: i64,
    pub default: i64,
    pub max: i64,
}

/// `spec.intervalSeconds`.
pub const INTERVAL_SECONDS: Bounds = Bounds { min: 60, default: 600, max: 86_400 };

/// `spec.provisioningRetry.limit`.
pub const RETRY_LIMIT: Bounds = Bounds { min: 0, default: 5, max: 20 };

/// `spec.provisioningRetry.backoffSeconds`.
pub const RETRY_BACKOFF_SECONDS: Bounds = Bounds { min: 10, default: 60, max: 3600 };

// === impl Bounds ===

impl Bounds {
    /// The effective number. Bounded, because an older schema may have stored another one.
    pub fn of(&self, declared: Option<i64>) -> i64 {
        declared.unwrap_or(self.default).clamp(self.min, self.max)
    }
}

#[cfg(test)]
mod tests {
    use kube::CustomResourceExt;
    use serde_json::Value;

    use super::*;
    use crate::api::channel::Channel;

    #[test]
    fn the_descriptions_name_the_bounds_and_defaults() {
        let crd = serde_json::to_value(Channel::crd()).unwrap();
        let spec = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties";
        for (path, bounds) in [
            ("intervalSeconds", INTERVAL_SECONDS),
            ("provisioningRetry/properties/limit", RETRY_LIMIT),
            ("provisioningRetry/properties/backoffSeconds", RETRY_BACKOFF_SECONDS),
        ] {
            let field = crd.pointer(&format!("{spec}/{path}")).unwrap();
            let text = field["description"].as_str().unwrap();
            assert!(text.contains(&format!(": {} to {}", bounds.min, bounds.max)), "{text}");
            assert!(text.contains(&format!("Defaults to {}.", bounds.default)), "{text}");
            assert_eq!(field["default"], Value::from(bounds.default), "{path}");
            let numbers =
                [&field["minimum"], &field["maximum"]].map(|number| number.as_f64().unwrap() as i64);
            assert_eq!(numbers, [bounds.min, bounds.max], "{path}");
        }
    }

    #[test]
    fn a_number_beyond_the_bounds_counts_as_the_nearest_one() {
        let numbers =
            [None, Some(-1), Some(60), Some(61), Some(i64::MAX)].map(|number| INTERVAL_SECONDS.of(number));
        assert_eq!(numbers, [600, 60, 60, 61, 86_400]);
    }
}
