//! Requests signed over `Date` instead of `X-Amz-Date`.

use super::*;

const HTTP_DATE: &str = "Sun, 30 Aug 2015 12:36:00 GMT";
const OVER_DATE: &str = "date;host";

/// Signs for [`NOW`] by hand, over whatever `signed` names: nothing else sends `Date` in all its
/// forms.
fn signed(headers: &[(&str, &str)], signed: &str) -> Request {
    let mut all: Vec<(String, String)> = vec![("host".into(), "example.test".into())];
    all.extend(
        headers
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into())),
    );
    let mut request = Request {
        name: String::new(),
        method: "POST".into(),
        path: "/ListRooms".into(),
        query: String::new(),
        headers: all,
        body: "{}".into(),
        signed: signed.into(),
        signature: String::new(),
    };
    let pairs: Vec<(&str, &[u8])> = request
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_bytes()))
        .collect();
    let received = Received {
        method: &request.method,
        path: &request.path,
        query: "",
        headers: &pairs,
        body: request.body.as_bytes(),
    };
    let hash = hex(&Sha256::digest(received.body).into());
    let canonical = canonical::request(&received, signed, &hash, Path::Escaped);
    let key = SigningKey::derive(SECRET, "20150830", SCOPE);
    let signature = key.sign(&canonical, "20150830T123600Z", "20150830", SCOPE);
    request.signature = signature.as_str().to_owned();
    request.authorized()
}

fn over_date(date: &str) -> Request {
    signed(&[("date", date)], OVER_DATE)
}

/// Goal: the first case of the suite that Amazon published in 2011, which signs `Date`. Its weekday
/// is wrong, there too.
#[test]
fn the_suite_of_2011_verifies() {
    let host = Scope {
        service: "host",
        ..SCOPE
    };
    let authorization = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20110909/us-east-1/host/aws4_request, \
        SignedHeaders=date;host, \
        Signature=b27ccfbfa7df52a200ff74193ca6e32d4b48b8856fab7ebf1c595d0670a7e470";
    let vanilla = Request {
        method: "GET".into(),
        path: "/".into(),
        body: String::new(),
        headers: Vec::new(),
        ..over_date(HTTP_DATE)
    }
    .with("date", "Mon, 09 Sep 2011 23:36:00 GMT")
    .with("host", "host.foo.com")
    .with("authorization", authorization);
    // 2011-09-09T23:36:00Z.
    let at = UnixTime::from_secs(1_315_611_360);
    assert_eq!(vanilla.verify_in(host, at), Ok(()));
    let changed = vanilla.with("date", "Mon, 09 Sep 2011 23:36:00 GMT");
    assert!(changed.verify_in(host, at).is_err());
}

/// Goal: both forms, each as the clients write it.
#[test]
fn a_signed_date_tells_the_time() {
    for date in [
        HTTP_DATE,
        // botocore.
        "Sun, 30 Aug 2015 12:36:00 -0000",
        "30 Aug 2015 14:36:00 +0200",
        "20150830T123600Z",
    ] {
        let request = over_date(date);
        assert_eq!(request.verify(NOW), Ok(()), "{date}");
        let mut other = request.clone();
        *other.header("date") = "Sun, 30 Aug 2015 12:36:01 GMT".into();
        assert_eq!(other.verify(NOW), Err(Mismatch), "{date}");
    }
}

/// Goal: a date that is wrong, far away, another day's or unsigned is no time; nor is one of two.
#[test]
fn other_dates_are_refused() {
    let unreadable = Err(Incomplete("Date is not a time"));
    for date in [
        "",
        "yesterday",
        "1440938160",
        "2015-08-30T12:36:00Z",
        "Sun, 30 Aug 2015 12:36:00",
        "Sun, 31 Feb 2015 12:36:00 GMT",
        "Thu, 1 Jan 1900 00:00:00 GMT",
        "20150830T123600",
    ] {
        assert_eq!(over_date(date).verify(NOW), unreadable, "{date}");
    }
    let skewed = Err(Invalid(
        "signed more than 5 minutes from this server's time",
    ));
    for date in [
        "Sun, 30 Aug 2015 12:30:59 GMT",
        "Sun, 30 Aug 2015 12:41:01 GMT",
        "20150830T124101Z",
    ] {
        assert_eq!(over_date(date).verify(NOW), skewed, "{date}");
    }
    let differ = Err(Invalid("credential date and signing time differ"));
    let tomorrow = "Mon, 31 Aug 2015 00:00:00 GMT";
    assert_eq!(over_date(tomorrow).verify(NOW), differ);
    let unsigned = signed(&[("date", HTTP_DATE)], "host");
    assert_eq!(
        unsigned.verify(NOW),
        Err(Invalid("Date must be signed where X-Amz-Date is not sent"))
    );
    let twice = over_date(HTTP_DATE).with("date", HTTP_DATE);
    assert_eq!(
        twice.verify(NOW),
        Err(Incomplete("X-Amz-Date or Date must be there once"))
    );
}

/// Goal: `X-Amz-Date` decides where it is sent; a `Date` beside it is a header like others.
#[test]
fn amazons_own_header_wins() {
    let right = ("x-amz-date", "20150830T123600Z");
    let wrong = ("x-amz-date", "20150830T223600Z");
    let old = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");
    let both = "date;host;x-amz-date";
    assert_eq!(signed(&[right, old], both).verify(NOW), Ok(()));
    assert_eq!(signed(&[right, old], "host;x-amz-date").verify(NOW), Ok(()));
    let skewed = signed(&[wrong, ("date", HTTP_DATE)], both).verify(NOW);
    assert!(matches!(skewed, Err(Invalid(_))), "{skewed:?}");
    let unreadable = signed(&[("x-amz-date", HTTP_DATE), ("date", HTTP_DATE)], both);
    assert_eq!(
        unreadable.verify(NOW),
        Err(Incomplete("X-Amz-Date is not a time"))
    );
    let twice = signed(&[right, right, ("date", HTTP_DATE)], both);
    assert_eq!(
        twice.verify(NOW),
        Err(Incomplete("X-Amz-Date must be there once"))
    );
}

/// Goal: the day of a credential is a day, not the beginning of one.
#[test]
fn a_credential_names_the_whole_day() {
    for day in ["", "2015", "2015083", "201508301", "20150830T"] {
        let mut request = over_date(HTTP_DATE);
        let authorization = request.header("authorization");
        *authorization = authorization.replace("/20150830/", &format!("/{day}/"));
        let differ = Err(Invalid("credential date and signing time differ"));
        assert_eq!(request.verify(NOW), differ, "{day}");
    }
}

proptest! {
    /// Goal: whatever a stranger writes as a date is a verdict.
    #[test]
    fn strangers_dates_get_a_verdict(date in "([A-Z][a-z]{2}, )?[ -~]{0,40}") {
        prop_assert!(vanilla().with("date", &date).verify(NOW).is_ok());
        let mut request = over_date(HTTP_DATE);
        *request.header("date") = date.clone();
        prop_assert_eq!(request.verify(NOW).is_ok(), date.trim() == HTTP_DATE, "{}", date);
    }
}
