#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the first inputs of kms_path_fuzz: what is set up, the shared files, a variable's value, and answers."""
import pathlib

CORPUS = pathlib.Path(__file__).parent / "corpus" / "kms_path"
KEYS, PROFILE, WEB_IDENTITY, RELATIVE, FULL, TOKEN, ENDPOINT, NO_INSTANCE = (1 << bit for bit in range(8))

CREDENTIALS = 'y{"AccessKeyId":"AKID","SecretAccessKey":"s","Token":"t","Expiration":"2030-01-01T00:00:00Z"}'
EXPIRED = CREDENTIALS.replace("2030", "2020")
ROLE = ("y<Response><Credentials><AccessKeyId>A</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken>"
        "<Expiration>2030-01-01T00:00:00Z</Expiration></Credentials></Response>")
KEY = 'y{"KeySpec":"ECC_NIST_P384","KeyUsage":"SIGN_VERIFY","PublicKey":"AAAA"}'
SIGNATURE = 'y{"Signature":"AAAA"}'
CONFIG = """\
[default]
role_arn = arn:aws:iam::1:role/a
source_profile = b
external_id = e
[profile b] ; comment
role_arn = arn:aws:iam::1:role/b
credential_source = {origin}
s3 =
  nested = 1
"""
KEYS_IN_FILE = "[default]\naws_access_key_id = A\naws_secret_access_key = s\naws_session_token = t # comment\n"

INPUTS = {
    "environment": (KEYS, "", "", "", KEY, SIGNATURE),
    "busy-service": (KEYS, "", "", "", "b", 't{"__type":"com.amazonaws.kms#ThrottlingException"}', KEY, "b", "b", "b"),
    "refused": (KEYS, "", "", "", 'e{"__type":"com.amazonaws.kms#NotFoundException","message":"no"}', 'e{"__type":"Other","Message":"no"}'),
    "no-answer": (KEYS, "", "", ""),
    "wrong-clock": (KEYS, "", "", "", 'e{"__type":"InvalidSignatureException","message":"Signature expired: x"}', "e[]"),
    "answer-is-no-object": (KEYS, "", "", "", "y[]", "y{"),
    "answer-without-key": (KEYS, "", "", "", "y{}", 'y{"Signature":"?"}'),
    "older-name-of-the-spec": (KEYS, "", "", "", 'y{"CustomerMasterKeySpec":"RSA_2048","PublicKey":"AA=="}', SIGNATURE),
    "keys-in-file": (0, "", KEYS_IN_FILE, "", KEY, SIGNATURE),
    "role": (0, CONFIG.format(origin="Ec2InstanceMetadata"), "", "", "ytoken", "yrole\n", CREDENTIALS, ROLE, ROLE, KEY, SIGNATURE),
    "role-by-environment": (0, CONFIG.format(origin="Environment"), "", "", ROLE),
    "role-by-container": (RELATIVE, CONFIG.format(origin="EcsContainer"), "", "", CREDENTIALS, ROLE, ROLE, KEY, SIGNATURE),
    "role-refused": (0, CONFIG.format(origin="x") + "aws_access_key_id=A\naws_secret_access_key=s\n", "", "",
                     "e<Error><Code>AccessDenied</Code><Message>no</Message></Error>"),
    "role-of-its-own": (0, "[default]\nrole_arn=r\nsource_profile=default\n", "", ""),
    "role-with-own-keys": (0, "[default]\nrole_arn=r\nsource_profile=default\n", KEYS_IN_FILE, "", ROLE, KEY),
    "second-factor": (0, "[default]\nrole_arn=r\nmfa_serial=m\n", "", ""),
    "single-sign-on": (PROFILE, "[profile sso]\nsso_session=s\n", "", "sso"),
    "no-such-profile": (PROFILE, "[profile a]\n", "[b]\n", "c"),
    "web-identity": (WEB_IDENTITY, "", "", "arn:aws:iam::1:role/a", ROLE, KEY, SIGNATURE),
    "web-identity-without-role": (WEB_IDENTITY, "", "", ""),
    "container": (RELATIVE | TOKEN, "", "", "", CREDENTIALS, KEY, SIGNATURE),
    "container-by-url": (FULL | TOKEN, "", "", "http://127.0.0.1/x", EXPIRED, KEY, CREDENTIALS, SIGNATURE),
    "container-elsewhere": (FULL | TOKEN, "", "", "http://example.com/x"),
    "instance": (0, "", "", "", "ytoken", "yrole", CREDENTIALS, KEY, SIGNATURE),
    "instance-elsewhere": (ENDPOINT, "", "", "http://[::1]:1//", "ytoken", "n"),
    "instance-without-role": (0, "", "", "", "ytoken", "n"),
    "nothing": (NO_INSTANCE, "", "", ""),
}

CORPUS.mkdir(exist_ok=True)
for name, (set_up, *texts) in INPUTS.items():
    (CORPUS / name).write_bytes(bytes([set_up]) + "\0".join(texts).encode())
