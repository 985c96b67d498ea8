//! One order: account, authorizations, challenges, certificate.

use std::sync::Arc;
use std::time::Duration;

use instant_acme::{
    Account, AuthorizationStatus, ChallengeType, Error, ExternalAccountKey, Identifier, NewAccount,
    NewOrder, Order, OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};
use zeroize::Zeroizing;

use super::caller::Caller;
use super::challenges::{Challenges, Showing};
use super::fault::Fault;
use super::http::Answerer;
use super::state::Kept;
use crate::config::{AcmeChallenge, AcmeSettings};
use crate::supervisor::blocking;
use uproar_proto::base::limits::ACME_ORDER_TIMEOUT;

/// How the authority says that an account is not, or not any more, one of its own.
const NO_ACCOUNT: &str = "urn:ietf:params:acme:error:accountDoesNotExist";
/// First interval between two looks whether the authority has come to a result; doubled each time.
const LOOK: Duration = Duration::from_millis(250);
/// Reasons of refusals that one message names.
const REASONS_MAX: usize = 3;

/// A certificate that fits its key and the names.
pub(super) struct Issued {
    /// To be presented.
    pub(super) certified: CertifiedKey,
    /// Chain and key, to be kept.
    pub(super) pem: Zeroizing<Vec<u8>>,
}

/// Gets a certificate. Whatever is shown to the authority is gone afterwards.
///
/// # Cancel safety
///
/// The authority may have counted the order, and nothing else is left of it.
pub(super) async fn order(
    settings: &AcmeSettings,
    kept: &Kept,
    challenges: &Arc<Challenges>,
    caller: &Caller,
) -> Result<Issued, Fault> {
    let work = async {
        let showing = challenges.show();
        match settings.challenge {
            AcmeChallenge::TlsAlpn01 => run(settings, kept, &showing, caller).await,
            AcmeChallenge::Http01 => {
                let answerer = Answerer::bind(settings.http_listen, challenges).await?;
                tokio::select! {
                    outcome = run(settings, kept, &showing, caller) => outcome,
                    never = answerer.run() => match never {},
                }
            }
        }
    };
    let outcome = tokio::time::timeout(ACME_ORDER_TIMEOUT, work).await;
    outcome.unwrap_or_else(|_elapsed| Err(Error::Timeout(None).into()))
}

async fn run(
    settings: &AcmeSettings,
    kept: &Kept,
    showing: &Showing,
    caller: &Caller,
) -> Result<Issued, Fault> {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let mut order = begin(settings, kept, caller).await?;
    prove(&mut order, settings, showing, &provider).await?;
    let patience = RetryPolicy::new()
        .initial_delay(LOOK)
        .timeout(ACME_ORDER_TIMEOUT);
    match order.poll_ready(&patience).await {
        Ok(OrderStatus::Ready) => {}
        // Why, only its parts say.
        Ok(_) | Err(Error::Api(_)) => return Err(reasons(&mut order).await),
        Err(error) => return Err(error.into()),
    }
    let unmade = |error: rcgen::Error| Fault::here(format!("a request for a certificate: {error}"));
    // A key of its own for each certificate.
    let key = KeyPair::generate().map_err(unmade)?;
    let mut params = CertificateParams::new(settings.domains.clone()).map_err(unmade)?;
    params.distinguished_name = DistinguishedName::new();
    let request = params.serialize_request(&key).map_err(unmade)?;
    order.finalize_csr(request.der()).await?;
    let chain = order.poll_certificate(&patience).await?;
    issued(&chain, &key, &settings.domains, &provider)
}

/// Opens the account, made at the first time, and begins an order.
async fn begin(settings: &AcmeSettings, kept: &Kept, caller: &Caller) -> Result<Order, Fault> {
    let names = settings.domains.iter().cloned().map(Identifier::Dns);
    let names: Vec<_> = names.collect();
    let of_us = kept.clone();
    let known = blocking(move || Ok(of_us.account())).await;
    if let Some(credentials) = known.map_err(Fault::here)? {
        let builder = Account::builder_with_http(Box::new(caller.clone()));
        let account = builder.from_credentials(credentials).await?;
        match account.new_order(&NewOrder::new(&names)).await {
            // A private authority that was set up anew.
            Err(Error::Api(problem)) if problem.r#type.as_deref() == Some(NO_ACCOUNT) => {
                tracing::warn!(
                    account = account.id(),
                    "TLS: the authority does not know the account; another one is made"
                );
                let of_us = kept.clone();
                let forgotten = blocking(move || of_us.forget_account()).await;
                forgotten.map_err(Fault::here)?;
            }
            outcome => return Ok(outcome?),
        }
    }
    let account = register(settings, kept, caller).await?;
    Ok(account.new_order(&NewOrder::new(&names)).await?)
}

async fn register(settings: &AcmeSettings, kept: &Kept, caller: &Caller) -> Result<Account, Fault> {
    let contact: Vec<&str> = settings.contact.iter().map(String::as_str).collect();
    let known = settings.account.as_ref();
    let known = known.map(|known| ExternalAccountKey::new(known.id.clone(), &known.secret));
    let wanted = NewAccount {
        contact: &contact,
        // The configuration says so, or there are no orders.
        terms_of_service_agreed: true,
        only_return_existing: false,
    };
    let builder = Account::builder_with_http(Box::new(caller.clone()));
    let made = builder.create(&wanted, settings.directory.clone(), known.as_ref());
    let (account, credentials) = made.await?;
    tracing::info!(
        account = account.id(),
        "TLS: an account at the certificate authority is made"
    );
    let kept = kept.clone();
    let stored = blocking(move || kept.keep_account(&credentials)).await;
    stored.map_err(|error| Fault::here(format!("the account cannot be kept: {error}")))?;
    Ok(account)
}

/// Shows what the authority wants to see, and tells it so.
async fn prove(
    order: &mut Order,
    settings: &AcmeSettings,
    showing: &Showing,
    provider: &CryptoProvider,
) -> Result<(), Fault> {
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        match authorization.status {
            AuthorizationStatus::Valid => continue,
            AuthorizationStatus::Pending => {}
            status @ (AuthorizationStatus::Invalid
            | AuthorizationStatus::Revoked
            | AuthorizationStatus::Expired
            | AuthorizationStatus::Deactivated) => {
                let name = authorization.identifier().to_string();
                return Err(Fault::refused(format!(
                    "{name}: its authorization is {status:?}"
                )));
            }
        }
        let domain = authorization.identifier().to_string();
        // What it asks for, not what it says: no other name is shown to be ours.
        if !settings.domains.contains(&domain) {
            return Err(Fault::refused(format!(
                "it asks about {domain}, which was not ordered"
            )));
        }
        let (kind, name) = match settings.challenge {
            AcmeChallenge::TlsAlpn01 => (ChallengeType::TlsAlpn01, "tls-alpn-01"),
            AcmeChallenge::Http01 => (ChallengeType::Http01, "http-01"),
        };
        let Some(mut challenge) = authorization.challenge(kind) else {
            return Err(Fault::refused(format!(
                "{domain}: it does not offer the challenge {name}"
            )));
        };
        let proof = challenge.key_authorization();
        match settings.challenge {
            AcmeChallenge::TlsAlpn01 => {
                showing.certificate(&domain, proof.digest().as_ref(), provider)?;
            }
            AcmeChallenge::Http01 => showing.answer(&challenge.token, proof.as_str()),
        }
        challenge.set_ready().await?;
    }
    Ok(())
}

/// Why an order is invalid, as its authorizations say.
async fn reasons(order: &mut Order) -> Fault {
    let mut reasons = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let Ok(mut authorization) = authorization else {
            break;
        };
        if authorization.refresh().await.is_err() {
            break;
        }
        let name = authorization.identifier().to_string();
        let errors = authorization.challenges.iter().filter_map(|challenge| {
            let problem = challenge.error.as_ref()?;
            Some(format!("{name}: {problem}"))
        });
        reasons.extend(errors);
    }
    if reasons.is_empty() {
        return Fault::refused("the order is invalid, and the authority does not say why");
    }
    reasons.truncate(REASONS_MAX);
    Fault::refused(reasons.join("; "))
}

/// Judges what the authority has issued. Its dates are not judged: if they are wrong, it may be by our clock.
fn issued(
    chain: &str,
    key: &KeyPair,
    domains: &[String],
    provider: &CryptoProvider,
) -> Result<Issued, Fault> {
    let unusable = |cause: &dyn std::fmt::Display| {
        Fault::refused(format!("the certificate it issued cannot be used: {cause}"))
    };
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(chain.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| unusable(&error))?;
    if let Some(missing) = missing(&certificates, domains) {
        return Err(unusable(&format!("{missing} is not one of its names")));
    }
    let secret = PrivatePkcs8KeyDer::from(key.serialize_der());
    let certified = CertifiedKey::from_der(certificates, secret.into(), provider)
        .map_err(|error| unusable(&error))?;
    let secret = Zeroizing::new(key.serialize_pem());
    let pem = [chain.trim_end().as_bytes(), b"\n", secret.as_bytes()].concat();
    Ok(Issued {
        certified,
        pem: pem.into(),
    })
}

/// A name that the first certificate of a chain is not for.
pub(super) fn missing<'a>(
    chain: &[CertificateDer<'_>],
    domains: &'a [String],
) -> Option<&'a String> {
    let first = chain.first();
    let parsed = first.and_then(|der| X509Certificate::from_der(der).ok());
    let listed = parsed
        .as_ref()
        .and_then(|(_, certificate)| certificate.subject_alternative_name().ok().flatten());
    let names = listed.map_or(&[][..], |listed| &listed.value.general_names);
    let is_named = |domain: &String| {
        names.iter().any(
            |name| matches!(name, GeneralName::DNSName(name) if name.eq_ignore_ascii_case(domain)),
        )
    };
    domains.iter().find(|domain| !is_named(domain))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a certificate for other names, or for another key, is not used.
    #[test]
    fn what_is_issued_is_judged() {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let domains = ["a.example", "b.example"].map(str::to_owned);
        let made = |names: &[String]| rcgen::generate_simple_self_signed(names).expect("made");
        let good = made(&domains);
        let judged = |made: &rcgen::CertifiedKey<KeyPair>, key: &KeyPair| {
            issued(&made.cert.pem(), key, &domains, &provider).map_err(|fault| fault.text)
        };
        let kept = judged(&good, &good.signing_key).expect("good").pem;
        let chain: Vec<_> = CertificateDer::pem_slice_iter(&kept)
            .collect::<Result<_, _>>()
            .expect("PEM");
        assert_eq!(chain, [good.cert.der().clone()]);
        let few = made(&domains[..1]);
        let error = judged(&few, &few.signing_key).err().expect("a name lacks");
        assert!(error.contains("b.example"), "{error}");
        assert!(judged(&good, &few.signing_key).is_err(), "another key");
        assert!(issued("", &good.signing_key, &domains, &provider).is_err());
    }
}
