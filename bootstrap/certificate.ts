import 'reflect-metadata'
import type { TransportCertificate } from '@libp2p/webrtc'
import { BasicConstraintsExtension, X509CertificateGenerator } from '@peculiar/x509'
import { base64url } from 'multiformats/bases/base64'
import { sha256 } from 'multiformats/hashes/sha2'
import { toString } from 'uint8arrays'

/**
 * The certificate behind a webrtc-direct address, whose hash is a part of the address.
 *
 * libp2p's own lasts 14 days and its address with it (a longer life overflows its timer); people share bootstrap
 * addresses for longer. Nobody checks the dates: the dialler compares the hash, and noise proves the peer id.
 */
const LIFE_MS = 20 * 365 * 24 * 3_600_000
/** Clocks of diallers may be behind ours. */
const BACKDATE_MS = 24 * 3_600_000
const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256' }

export async function createCertificate(now: number): Promise<TransportCertificate> {
  const keys = await crypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify'])
  const description = {
    serialNumber: toString(crypto.getRandomValues(new Uint8Array(8)), 'hex').replace(
      /^[89a-f]/,
      '1',
    ),
    name: 'CN=mlstore',
    notBefore: wholeSeconds(now - BACKDATE_MS),
    notAfter: wholeSeconds(now + LIFE_MS),
    signingAlgorithm: { name: 'ECDSA', hash: 'SHA-256' },
    keys,
    extensions: [new BasicConstraintsExtension(false, undefined, true)],
  }
  const certificate = await X509CertificateGenerator.createSelfSigned(description, crypto)
  const hash = await sha256.digest(new Uint8Array(certificate.rawData))
  return {
    privateKey: pem(new Uint8Array(await crypto.subtle.exportKey('pkcs8', keys.privateKey))),
    pem: certificate.toString('pem'),
    certhash: base64url.encode(hash.bytes),
  }
}

function wholeSeconds(ms: number): Date {
  return new Date(Math.floor(ms / 1_000) * 1_000)
}

function pem(der: Uint8Array): string {
  const lines = toString(der, 'base64pad').match(/.{1,64}/g) ?? []
  return ['-----BEGIN PRIVATE KEY-----', ...lines, '-----END PRIVATE KEY-----'].join('\n')
}
