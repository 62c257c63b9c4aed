// A real OpenID Connect provider for test_oidc.py, with keys that are new at every start and people who agree at once.
//
//   node provider.mjs '{"port": 15001, "redirect_uris": ["http://127.0.0.1:15002/auth/callback"]}'
//
// Who signs in is the `login_hint` of the authorization request; "nobody" refuses. PUT /people/<name> says which roles
// somebody has, `told_by` where the provider tells them: "access_token" (as Keycloak does), "id_token" or "userinfo".
import { createServer } from 'node:http';
import { generateKeyPairSync, randomUUID } from 'node:crypto';
import Provider from 'oidc-provider';

const { port, redirect_uris, algorithm = 'RS256', told_by = 'access_token' } = JSON.parse(process.argv[2]);
const issuer = `http://127.0.0.1:${port}`;
const people = new Map();
const roles = (name) => ({ realm_access: { roles: people.get(name) ?? [] } });

const kinds = {
  RS256: ['rsa', { modulusLength: 2048 }],
  PS256: ['rsa', { modulusLength: 2048 }],
  ES256: ['ec', { namedCurve: 'P-256' }],
  EdDSA: ['ed25519', {}],
};

function key(alg) {
  const { privateKey } = generateKeyPairSync(...kinds[alg]);
  return { ...privateKey.export({ format: 'jwk' }), kid: randomUUID(), use: 'sig', alg };
}

const provider = new Provider(issuer, {
  clients: [{
    client_id: 'jan',
    client_secret: 'a secret of jan, & its: client',
    redirect_uris,
    id_token_signed_response_alg: algorithm,
  }],
  jwks: { keys: algorithm === 'RS256' ? [key('RS256')] : [key(algorithm), key('RS256')] },
  cookies: { keys: ['only for tests'] },
  claims: {
    openid: ['sub'],
    profile: ['name', 'preferred_username', ...(told_by === 'access_token' ? [] : ['realm_access'])],
    email: ['email', 'email_verified'],
  },
  conformIdTokenClaims: told_by === 'userinfo', // nothing but the subject in the ID token
  findAccount: (ctx, name) => ({
    accountId: name,
    claims: () => ({
      sub: name,
      name: `${name} of the provider`,
      preferred_username: name,
      email: `${name}@provider.test`,
      email_verified: true,
      ...(told_by === 'access_token' ? {} : roles(name)),
    }),
  }),
  extraTokenClaims: (ctx, token) => (told_by === 'access_token' ? roles(token.accountId) : undefined),
  enabledJWA: { idTokenSigningAlgValues: Object.keys(kinds), userinfoSigningAlgValues: Object.keys(kinds) },
  pkce: { required: () => true },
  features: {
    devInteractions: { enabled: false },
    resourceIndicators: {
      // Access tokens are JWTs for Jan Server, or opaque ones that open userinfo.
      enabled: told_by !== 'userinfo',
      defaultResource: () => 'https://jan.test/',
      useGrantedResource: () => true,
      getResourceServerInfo: () => ({
        scope: '', audience: 'jan-api', accessTokenFormat: 'jwt', accessTokenTTL: 600, jwt: { sign: { alg: algorithm } },
      }),
    },
  },
});

// The page where a person would sign in and agree.
async function agree(ctx) {
  const { params } = await provider.interactionDetails(ctx.req, ctx.res);
  const accountId = params.login_hint ?? 'somebody';
  if (accountId === 'nobody') {
    const refusal = { error: 'access_denied', error_description: 'nobody did not agree' };
    return provider.interactionFinished(ctx.req, ctx.res, refusal);
  }
  const grant = new provider.Grant({ accountId, clientId: params.client_id });
  grant.addOIDCScope(params.scope);
  const result = { login: { accountId }, consent: { grantId: await grant.save() } };
  return provider.interactionFinished(ctx.req, ctx.res, result, { mergeWithLastSubmission: false });
}

provider.use(async (ctx, next) => {
  const [, place, name] = ctx.path.split('/');
  if (place === 'interaction') return agree(ctx);
  if (place === 'people' && ctx.method === 'PUT') {
    people.set(name, (ctx.query.roles ?? '').split(' '));
    ctx.body = {};
    return undefined;
  }
  return next();
});

createServer(provider.callback()).listen(port, '127.0.0.1', () => console.log(issuer));
