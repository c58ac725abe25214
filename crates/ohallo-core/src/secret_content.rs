//! The content of a Secret at the time of a read.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use secrecy::{ExposeSecret, SecretSlice};

use crate::placeholder;
use crate::secret_version::Version;

/// The content of a Secret at the time of a read. No Debug: it holds values.
pub enum Content {
    Absent,
    Present {
        uid: String,
        resource_version: String,
        data: BTreeMap<String, SecretSlice<u8>>,
    },
    /// The data was not read, because it is larger than [`placeholder::SECRET_DATA`].
    TooLarge {
        resource_version: String,
    },
}

// === impl Content ===

impl Content {
    pub fn version(&self) -> Version {
        match self {
            Self::Absent => Version::Absent,
            Self::Present { resource_version, .. } | Self::TooLarge { resource_version } => {
                Version::present(resource_version)
            }
        }
    }

    pub fn of(secret: Secret) -> Self {
        let uid = secret.uid().unwrap_or_default();
        let resource_version = secret.resource_version().unwrap_or_default();
        let data = secret.data.unwrap_or_default();
        if data.contains_key(placeholder::CUT) {
            return Self::TooLarge { resource_version };
        }
        Self::Present {
            uid,
            resource_version,
            data: data.into_iter().map(|(key, value)| (key, value.0.into())).collect(),
        }
    }

    /// The same content, reduced to the entries that `keys` selects.
    pub fn only(&self, keys: impl Fn(&str) -> bool) -> Self {
        match self {
            Self::Absent => Self::Absent,
            Self::TooLarge { resource_version } => {
                Self::TooLarge { resource_version: resource_version.clone() }
            }
            Self::Present { uid, resource_version, data } => {
                let named = data.iter().filter(|(key, _)| keys(key));
                Self::Present {
                    uid: uid.clone(),
                    resource_version: resource_version.clone(),
                    data: named.map(|(key, value)| (key.clone(), value.clone())).collect(),
                }
            }
        }
    }

    /// The size of names and values, in bytes.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Absent | Self::TooLarge { .. } => 0,
            Self::Present { data, .. } => {
                data.iter().map(|(key, value)| key.len() + value.expose_secret().len()).sum()
            }
        }
    }

    /// The size in a cache, including overhead, in bytes.
    pub fn weight(&self) -> u32 {
        u32::try_from(self.bytes() + ENTRY_BYTES).unwrap_or(u32::MAX)
    }
}

/// The overhead of a cache entry, in bytes.
const ENTRY_BYTES: usize = 512;
