//! The rights of an operator's service account.

use k8s_openapi::api::authorization::v1::{SubjectAccessReview, SubjectAccessReviewSpec};
use kube::api::{Api, PostParams};
use ohallo_core::rights::Right;

use crate::check::Finding;
use crate::cluster::{Cluster, failed, read};
use crate::failure::Failure;
use crate::installed::Operator;

/// # Errors
/// The API server does not answer.
pub async fn of(cluster: &Cluster, operator: &Operator) -> Result<Finding, Failure> {
    let api: Api<SubjectAccessReview> = Api::all(cluster.client.clone());
    let check = format!("rights of {}", operator.user());
    let mut denied = Vec::new();
    for right in operator.served.rights().iter().chain(&operator.served.optional_rights()) {
        let review = review(operator, right);
        match read(async || api.create(&PostParams::default(), &review).await).await {
            Ok(answer) if answer.status.as_ref().is_some_and(|status| status.allowed) => {}
            Ok(_) => denied.push(right.description()),
            Err(kube::Error::Api(status)) if status.code == 403 => {
                let message = "you may not create subjectaccessreviews.authorization.k8s.io";
                return Ok(Finding::unknown(check, message));
            }
            Err(error) => return Err(failed("the rights of the operator can't be asked for", &error)),
        }
    }
    if denied.is_empty() {
        return Ok(Finding::ok(check, "it has every right that the operator needs"));
    }
    let message = format!("it is not allowed to {}", denied.join(", "));
    Ok(Finding::problem(check, message, "grant what the chart's or the base's roles grant"))
}

fn review(operator: &Operator, right: &Right) -> SubjectAccessReview {
    let groups = vec![
        "system:serviceaccounts".to_owned(),
        format!("system:serviceaccounts:{}", operator.namespace),
        "system:authenticated".to_owned(),
    ];
    SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: Some(operator.user()),
            groups: Some(groups),
            resource_attributes: Some(right.attributes()),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    }
}
