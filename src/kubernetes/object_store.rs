//! Every write to an object of the operator's kinds: guarded patches of metadata and guarded writes of the status.

use std::fmt::Debug;

use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;

use ohallo_core::api::MANAGER;

/// A kind whose objects are written here.
pub trait Object: Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned {}

impl<K: Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned> Object for K {}

/// The answer to a guarded write or a read.
#[derive(Debug)]
pub enum Written<K> {
    /// The object as the API server returned it.
    Stored(Box<K>),
    /// The object is deleted, or another one has its name.
    Gone,
    /// The object has a newer version.
    Conflict,
}

/// The object as the API server has it now; `None` if it is deleted or replaced by another of the same name.
///
/// # Errors
/// The API server's, except that the object does not exist.
pub async fn read<K: Object>(api: &Api<K>, of: &K) -> Result<Option<K>, kube::Error> {
    match api.get(&of.name_any()).await {
        Ok(fresh) => Ok(Some(fresh).filter(|fresh| fresh.meta().uid == of.meta().uid)),
        Err(error) if has_code(&error, 404) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Patches the metadata. The patch is guarded by the object's uid and version.
///
/// # Errors
/// The API server's, except that the object does not exist or has a newer version. 422 may mean that another object has
/// the name, that a finalizer is at another position, or a policy's refusal.
pub async fn patch_metadata<K: Object>(
    api: &Api<K>,
    object: &K,
    patch: json_patch::Patch,
) -> Result<Written<K>, kube::Error> {
    let params = PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() };
    match api.patch(&object.name_any(), &params, &Patch::Json::<()>(patch)).await {
        Ok(stored) => Ok(Written::Stored(Box::new(stored))),
        Err(error) if has_code(&error, 404) => Ok(Written::Gone),
        Err(error) if has_code(&error, 409) => Ok(Written::Conflict),
        Err(error) => Err(error),
    }
}

/// Writes the status of the object, guarded by its version. The API server ignores everything else of it.
///
/// # Errors
/// The API server's, except that the object does not exist or has a newer version.
pub async fn replace_status<K: Object>(api: &Api<K>, object: &K) -> Result<Written<K>, kube::Error> {
    let params = PostParams { field_manager: Some(MANAGER.into()), ..PostParams::default() };
    match api.replace_status(&object.name_any(), &params, object).await {
        Ok(stored) => Ok(Written::Stored(Box::new(stored))),
        Err(error) if has_code(&error, 404) => Ok(Written::Gone),
        Err(error) if has_code(&error, 409) => Ok(Written::Conflict),
        Err(error) => Err(error),
    }
}

/// Whether the API server answered with this code.
pub fn has_code(error: &kube::Error, code: u16) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == code)
}
